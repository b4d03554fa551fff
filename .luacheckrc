-- luacheck: LuaJIT, no globals; optimizer scripts see what the recorder gives them.
std = 'luajit'
max_line_length = 100
unused_args = true
self = false

stds.script = {
  read_globals = {
    'abs', 'sign', 'sqrt', 'exp', 'log', 'tanh', 'sigmoid', 'sin', 'cos', 'floor', 'min', 'max',
    'clip', 'where', 'lt', 'le', 'gt', 'ge', 'eq', 'sum', 'mean', 'norm', 'row_sum', 'row_mean',
    'normal', 'uniform', 'is_zero', 'math', 'pairs', 'ipairs', 'next', 'select', 'unpack', 'type',
    'error', 'assert', 'tostring', 'tonumber',
  },
}
files['lua/optim'] = { std = 'script', ignore = { '212' } } -- update(w, g, s, p) need not use all
files['spec/lua'] = { std = 'luajit+busted' }
