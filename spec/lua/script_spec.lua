-- SPDX-License-Identifier: MIT
-- Scripts: what is refused, with the script's name and line, and what it may do.

local neap = require 'neap'
local nd, optim = neap.nd, neap.optim

--- Pushes ones of `shape` to zeros through the script; the new value as a table.
local function push(text, settings, shape, key)
  local store = neap.kv.create()
  store:set_optimizer(optim.load(text, settings))
  local out = nd.zeros(shape or { 3 })
  store:init(key or 'w', out)
  store:push(key or 'w', nd.ones(shape or { 3 }))
  store:pull(key or 'w', out)
  return out:totable()
end

--- A script whose update begins at line 4.
local function script(body, fields)
  return ('return {\n  name = "rule", %s\n  update = function(w, g, s, p)\n%s\n  end,\n}'):format(
    fields or '', body)
end

--- The script is refused with `line` and all words that follow.
local function refused(text, line, ...)
  local ok, message = pcall(push, text)
  assert.is_false(ok)
  local where = line and ('rule:%d: '):format(line) or 'rule: '
  assert.is_truthy(message:find(where, 1, true), message)
  for i = 1, select('#', ...) do
    local word = select(i, ...)
    assert.is_truthy(message:find(word, 1, true), message .. '\n(wanted: ' .. word .. ')')
  end
end

describe('a script', function()
  describe('is refused with its line when it', function()
    it('compares an expression by ==, also with a number, nil or a string', function()
      for _, other in ipairs { 'w', '0', 'nil', '"x"', 'true', '{}' } do
        refused(script('local a = 1\nif g == ' .. other .. ' then return w end return w'), 5,
          'compared by ==', 'eq(a, b)', 'where')
        refused(script('if ' .. other .. ' ~= g then return w end return w'), 4, '==', 'where')
      end
    end)

    it('compares an expression by < or <=', function()
      refused(script 'if g < w then return w end return g', 4, '< or >', 'lt(a, b)')
      refused(script '\nif g < 0 then return w end return g', 5, 'lt(a, b)')
      refused(script 'if 1 >= g then return w end return g', 4, '<= or >=', 'le(a, b)')
      refused(script 'if p.t > 10 then return w end return g', 4, 'gt(a, b)')
      refused(script('if p.momentum == 0 then return w end return g',
        'defaults = { momentum = 0 },'), 4, 'compared')
    end)

    it('reads a setting that does not exist', function()
      refused(script('return w - p.learning_rat * g', 'defaults = { beta = 1 },'), 4,
        'learning_rat', 'beta', 'learning_rate', 'rescale_grad')
      refused(script 'p.x = 1 return w', 4, 'read only')
    end)

    it('uses a state or scalar that was not declared', function()
      refused(script 'return w + s.mom', 4, 'mom', "state = { 'mom' }", 'scalars')
      refused(script('s.x = g return w', "state = { 'mom' }, scalars = { n = 0 },"), 4,
        'mom, n')
    end)

    it('uses an expression of an earlier recording', function()
      local text = [[
local kept
return {
  name = 'rule', defaults = { flag = true },
  update = function(w, g, s, p)
    local old = kept
    kept = p.flag and g or w
    if old then
      return w + old
    end
    return w
  end,
}]]
      local store = neap.kv.create()
      local o = optim.load(text)
      store:set_optimizer(o)
      store:init('w', nd.zeros(2))
      store:push('w', nd.ones(2))
      o:set { flag = false } -- a boolean: records anew
      local ok, message = pcall(store.push, store, 'w', nd.ones(2))
      assert.is_false(ok)
      assert.is_truthy(message:find('rule:8: .*earlier recording'), message)
    end)

    it('returns something that has not the shape of the weight', function()
      refused(script 'return sum(w)', 3, "weight's shape", 'one number for the key')
      refused(script 'return row_mean(w)', 3, 'one number a row')
      refused(script 'w = w + g', 3, 'must return', 'not nil')
      refused(script 'return 1', 3, 'must return', 'not 1')
      refused('local kept\n' ..
        script('if kept then return kept end kept = w return nil'), 4,
        'must return')
      refused(script('s.m = sum(g) return w', "state = { 'm' },"), 4, 'scalars')
      refused(script('s.n = g return w', 'scalars = { n = 0 },'), 4, 'one number for the key')
      refused(script 'return w * sum(norm(w))', 4, 'sum', 'one number for the key')
    end)

    it('computes with what is no number', function()
      refused(script 'return w + nil', 4, "right side of '+' is nil")
      refused(script('return w * p.flag', 'defaults = { flag = false },'), 4, 'is false', "'if'")
      refused(script 'return w - "a"', 4, 'string')
      refused(script 'return sqrt({})', 4, 'argument 1 of sqrt', 'a table')
      refused(script 'return w % 2', 4, 'floor')
      refused(script 'return w[1]', 4, 'no field', 'all elements at once')
      refused(script 'return w .. "x"', 4, 'no text')
      refused(script 'return w + #g', 4, 'p.shape')
      refused(script 'return w + tonumber(g)', 4, 'tonumber')
      refused(script 'return max(w, g, 1)', 4, 'two arguments')
    end)

    it('never ends', function()
      refused(script 'local x = 1\nwhile true do x = x + 1 end', 5, 'must end')
      refused(script 'for i = 1, 1e12 do g = g * 1 end return w', 4, 'must end')
      refused(script 'for i = 1, 1e12 do g = g + i end return w', 4, '4096 operations')
      local ok, message = pcall(optim.load, 'local i = 0\nwhile true do i = i + 1 end')
      assert.is_false(ok)
      assert.is_truthy(message:find('script:2: .*must end'), message)
    end)

    it('reaches for the outside', function()
      for _, name in ipairs { 'io', 'os', 'ffi', 'debug', 'jit', 'require', 'load', 'loadstring',
        'dofile', 'string', 'coroutine', 'package', '_G', 'getmetatable', 'setmetatable',
        'rawset', 'pcall', 'xpcall', 'getfenv', 'setfenv', 'collectgarbage', 'newproxy' } do
        assert.same({ 1, 1, 1 }, push(script(('if %s == nil then return w + g end'):format(name))))
      end
      refused(script 'return io.open("/etc/passwd")', 4, 'io')
    end)

    it('does not say what it should', function()
      local function load_error(text, words)
        local ok, message = pcall(optim.load, text)
        assert.is_false(ok)
        assert.is_truthy(message:find(words, 1, true), message)
      end
      load_error('return 3', 'returns a table')
      load_error('return { name = "x" }', 'update must be a function')
      load_error('return { update = print }', 'name must be a word')
      load_error('return { name = "x", update = function() end, states = {} }', 'states')
      load_error('return { name = "x", update = function() end, state = { "a", "a" } }', 'taken')
      load_error('return { name = "x", update = function() end, state = { a = "g" } }', "'weight'")
      load_error('return { name = "x", update = function() end, scalars = { a = "g" } }', 'scalars')
      load_error('return { name = "x", update = function() end, defaults = { a = math.abs } }',
        'defaults.a')
      load_error('return {\n name = = }', 'script:2:')
      load_error('return "' .. ('x'):rep(70000) .. '"', '65536')
      load_error(string.dump(function() return {} end), 'bytecode')
      load_error('/no/such/file.lua', '/no/such/file.lua')
    end)
  end)

  it('is true as a condition by itself, as any Lua value', function()
    assert.same({ 1, 1, 1 }, push(script 'if w and g then return w + g end'))
  end)

  it('gives states the value that was last set', function()
    assert.same({ 3, 3, 3 }, push(script('s.a = s.a + g\ns.a = s.a + s.a\nreturn w + s.a',
      'state = { a = 0.5 },')))
  end)

  it('sees key, shape and storage type as plain values', function()
    local text = script [[
      if p.key == 'b' then return w + 2 * g end
      if #p.shape == 2 and p.shape[2] == 3 then return w + 3 * g end
      if p.stype == 'default' then return w + g end]]
    local store = neap.kv.create()
    store:set_optimizer(optim.load(text))
    local shapes = { a = { 2 }, b = { 2, 3 }, c = { 2, 3 }, d = { 2, 2 } }
    for key, shape in pairs(shapes) do
      store:init(key, nd.zeros(shape))
      store:push(key, nd.ones(shape))
    end
    for key, expected in pairs { a = 1, b = 2, c = 3, d = 1 } do
      local out = nd.zeros(shapes[key])
      store:pull(key, out)
      assert.equal(expected, out:at(0):sum():item() / (shapes[key][2] or 1))
    end
  end)

  it('has functions that mean what their names say', function()
    -- g is 1 everywhere, w 0; each gives what plain Lua gives for the number.
    local cases = {
      ['abs(-g)'] = 1, ['sign(-3 * g)'] = -1, ['sqrt(4 * g)'] = 2, ['exp(g)'] = math.exp(1),
      ['log(2 * g)'] = math.log(2), ['tanh(g)'] = math.tanh(1),
      ['sigmoid(g)'] = 1 / (1 + math.exp(-1)), ['sin(g)'] = math.sin(1),
      ['cos(g)'] = math.cos(1), ['floor(g * 1.5)'] = 1,
      ['min(g, 2)'] = 1, ['max(g, 2)'] = 2, ['clip(g * 5, 2)'] = 2, ['clip(g * -5, 2)'] = -2,
      ['clip(g, 2, 3)'] = 2, ['clip(g * 9, false)'] = 9, ['where(lt(g, 2), 5, 6)'] = 5,
      ['where(gt(g, 2), 5, w)'] = 0, ['lt(g, 1)'] = 0, ['le(g, 1)'] = 1, ['gt(g, 0)'] = 1,
      ['ge(g, 2)'] = 0, ['eq(g, 1)'] = 1, ['sum(g) + w'] = 6, ['mean(g) + w'] = 1,
      ['norm(2 * g) + w'] = math.sqrt(24), ['row_sum(g) + w'] = 3, ['row_mean(g) + w'] = 1,
      ['2 ^ (g * 3)'] = 8, ['(g * 3) ^ 2'] = 9, ['(g * 4) ^ 0.5'] = 2, ['-g - 1'] = -2,
      ['1 / (g * 4)'] = 0.25, ['w + sqrt(4) + max(1, 3) + where(lt(1, 2), 10, 20)'] = 15,
      ['w + clip(7, 5) + math.floor(1.5)'] = 6, ['g * 1 - 0'] = 1, ['p.t + w'] = 1,
      ['where(true, g, w)'] = 1, ['w + eq(sum(g), 6)'] = 1,
    }
    for text, expected in pairs(cases) do
      local got = push(script('return ' .. text), nil, { 2, 3 })
      for r = 1, 2 do
        for c = 1, 3 do
          assert.is_true(math.abs(got[r][c] - expected) <= 1e-6 * math.max(1, math.abs(expected)),
            ('%s is %g, not %g'):format(text, got[r][c], expected))
        end
      end
    end
  end)

  it('draws numbers that repeat for one seed, key, t and element', function()
    local text = script 'return uniform() + 10 * floor(normal() * 0)'
    local function draw(key, seed)
      neap.seed(seed)
      return push(text, nil, { 5 }, key)
    end
    local first = draw('a', 1)
    assert.same(first, draw('a', 1))
    assert.are_not.same(first, draw('a', 2))
    assert.are_not.same(first, draw('b', 1))
    assert.are_not.equal(first[1], first[2])
    for _, x in ipairs(first) do assert.is_true(x >= 0 and x < 1) end
    -- Two calls are two draws.
    local twice = push(script 'return uniform() - uniform()', nil, { 5 })
    assert.are_not.same({ 0, 0, 0, 0, 0 }, twice)
  end)

  it('may ask whether a setting is zero, and is recorded anew when that changes', function()
    local text = script([[
      if is_zero(p.momentum) then return w + g end
      s.mom = p.momentum * s.mom + g
      return w + s.mom]], "defaults = { momentum = 0 }, state = { 'mom' },")
    local store, out, one = neap.kv.create(), nd.zeros(1), nd.ones(1)
    store:set_optimizer(optim.load(text))
    store:init('w', out)
    local function after(settings)
      store:set_hyper(settings)
      store:push('w', one)
      store:pull('w', out)
      return out:item()
    end
    local before = optim.recordings()
    assert.equal(1, after { momentum = 0 })
    assert.equal(2, after { momentum = 0.5 })   -- mom 1
    assert.equal(3.5, after { momentum = 0.5 }) -- mom 1.5
    assert.equal(6, after { momentum = 1 })     -- mom 2.5: any other number costs nothing
    assert.equal(before + 2, optim.recordings())
    refused(script 'if is_zero(p.t) then return w end return g', 4, 'is_zero', 'eq(x, 0)')
    refused(script 'if is_zero(w) then return w end return g', 4, 'is_zero')
  end)

  it('keeps scalars from update to update', function()
    local text = script('s.n = s.n * 2\nreturn w + s.n * g', 'scalars = { n = 1, unused = 3 },')
    local store, out, one = neap.kv.create(), nd.zeros(2), nd.ones(2)
    store:set_optimizer(optim.load(text))
    store:init(1, out)
    for _ = 1, 3 do store:push(1, one) end
    store:pull(1, out)
    assert.same({ 14, 14 }, out:totable()) -- 2 + 4 + 8
  end)

  it('cannot change what another script gets', function()
    push(script 'math.floor = nil ipairs = nil clip = nil return w + g')
    assert.same({ 1, 1, 1 }, push(script 'return w + clip(g, math.floor(1.5))'))
    assert.is_function(math.floor)
  end)

  it('is recorded in less than 5 ms', function()
    local o = optim.adam {}
    local record, parsed = require 'neap.record', o._script
    local best = math.huge
    for _ = 1, 20 do
      local start = os.clock()
      record.update(parsed, { values = o:settings(), key = 'w', shape = { 3 }, stype = 'default' })
      best = math.min(best, os.clock() - start)
    end
    assert.is_true(best < 0.005, ('%g s'):format(best))
  end)
end)
