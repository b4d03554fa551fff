-- SPDX-License-Identifier: MIT
-- migrate(old, new, w) of a script: its states from those of the optimizer that it replaces.

local neap = require 'neap'
local nd, optim = neap.nd, neap.optim

--- A script whose update adds up what `body`, its migrate, has left in its states.
local function script(body, fields)
  return ([[
return {
  name = 'after', %s
  update = function(w, g, s, p)
    return %s
  end,
  migrate = function(old, new, w)
%s
  end,
}]]):format(fields and fields[1] or "state = { 'x' },", fields and fields[2] or 's.x + 0 * w', body)
end

local function value_of(store, key)
  local out = nd.zeros({ 2, 3 }, { dtype = 'float64' })
  store:pull(key, out)
  return out:totable()
end

local function all(x) return { { x, x, x }, { x, x, x } } end

--- A store after two updates of 'w' by sgd with momentum: mom -1, then -1.5; w -2.5.
local function with_momentum(kind, key)
  local store = neap.kv.create(kind)
  store:init(key or 'w', nd.zeros({ 2, 3 }, { dtype = 'float64' }))
  store:set_optimizer(optim.sgd { learning_rate = 1, momentum = 0.5 })
  for _ = 1, 2 do store:push(key or 'w', nd.ones({ 2, 3 }, { dtype = 'float64' })) end
  return store
end

local function push(store, key) store:push(key or 'w', nd.ones({ 2, 3 }, { dtype = 'float64' })) end

describe('migrate', function()
  it('computes new states from old ones and the weight', function()
    for _, kind in ipairs { 'local', 'device' } do
      local store = with_momentum(kind)
      store:set_optimizer(optim.load(script('    new.x = old.mom * old.mom - 2 * w')))
      assert.same(all(-2.5), value_of(store, 'w')) -- the weight stays
      push(store)
      assert.same(all(1.5 * 1.5 + 5), value_of(store, 'w'))
    end
  end)

  it('may sum over key and rows', function()
    local store = with_momentum()
    store:set_optimizer(optim.load(script('    new.x = old.mom + sum(old.mom) + row_mean(w)')))
    push(store)
    assert.same(all(-1.5 - 9 - 2.5), value_of(store, 'w'))
  end)

  it('comes on top of states that carry over by their name', function()
    local store = with_momentum()
    store:set_optimizer(optim.load(script('    new.x = 10 * new.mom', {
      "state = { 'mom', 'x', 'y' },", 's.mom + 100 * s.x + s.y' })))
    push(store)
    assert.same(all(-1.5 - 1500), value_of(store, 'w'))
  end)

  it('sees states that a key does not have yet as they begin', function()
    local store = neap.kv.create()
    store:init('w', nd.full({ 2, 3 }, 4, { dtype = 'float64' }))
    store:set_optimizer(optim.load [[return { name = 'before', state = { a = 7, b = 'weight' },
      update = function(w) return w end }]])
    push(store) -- uses neither
    store:set_optimizer(optim.load(script('    new.x = old.a + old.b')))
    push(store)
    assert.same(all(11), value_of(store, 'w'))
  end)

  it('has scalars, old and new', function()
    local store = neap.kv.create()
    store:init('w', nd.zeros({ 2, 3 }, { dtype = 'float64' }))
    store:set_optimizer(optim.load [[return { name = 'before', scalars = { n = 3, m = 5 },
      update = function(w, g, s) s.n = 2 * s.n return w + 0 * s.m end }]])
    push(store)
    store:set_optimizer(optim.load(script('    new.k = old.n + 100 * old.m + new.j', {
      'scalars = { k = 0, j = 1000 },', 's.k + 0 * w' })))
    push(store)
    assert.same(all(6 + 500 + 1000), value_of(store, 'w'))
  end)

  it('goes on with t where all states come from old ones, and begins anew elsewhere', function()
    for _, case in ipairs { { "{ 'x' }", 3 }, { "{ 'x', 'y' }", 1 } } do
      local store = with_momentum()
      store:set_optimizer(optim.load(script('    new.x = old.mom', {
        'state = ' .. case[1] .. ',', 'p.t + 0 * w' })))
      push(store)
      assert.same(all(case[2]), value_of(store, 'w'))
    end
  end)

  it('keeps float32 states, and the master of a 16-bit weight', function()
    local store, out = neap.kv.create(), nd.ones(4, { dtype = 'float16' })
    local one = nd.ones(4, { dtype = 'float16' })
    store:init('w', out)
    store:set_optimizer(optim.sgd { learning_rate = 2 ^ -13, momentum = 0.5,
      multi_precision = true })
    store:push('w', one) -- mom -2^-13; the weight's own step would be 2^-11
    local after = optim.load([[return { name = 'after', state = { 'half' },
      update = function(w, g, s) return w + 0 * s.half end,
      migrate = function(old, new) new.half = old.mom / 2 end }]], { multi_precision = true })
    store:set_optimizer(after)
    store:push('w', one)
    local seen = {}
    for _, name, handle in after:states() do
      local a = require('neap.array').adopt(handle, 0)
      seen[name] = { a.dtype, a:at(0):item() }
    end
    assert.same({ 'float32', -2 ^ -14 }, seen.half)
    assert.same({ 'float32', 1 - 2 ^ -13 }, seen.weight32)
  end)

  it('leaves keys alone that were never updated', function()
    local store = with_momentum()
    store:init('other', nd.zeros({ 2, 3 }, { dtype = 'float64' }))
    store:set_optimizer(optim.load(script('    new.x = old.mom + 1')))
    push(store, 'other')
    assert.same(all(0), value_of(store, 'other'))
  end)

  it('is not asked when the same script is set again', function()
    local store = with_momentum()
    local text = script('    new.x = old.mom', { "state = { 'x' },", 's.x + 0 * w' })
    store:set_optimizer(optim.load(text))
    store:set_optimizer(optim.load(text)) -- has no mom
    push(store)
    assert.same(all(-1.5), value_of(store, 'w'))
  end)

  it('that fails is refused with its line, and the old optimizer stays', function()
    for body, words in pairs {
      ['    new.x = old.mum'] = { 'after:7: ', 'sgd, which is replaced, has no state', '"mum"',
        'there are mom' },
      ['    new.y = old.mom'] = { 'after:7: ', 'there is no state', '"y"', 'there are x' },
      ['    old.mom = 1'] = { 'after:7: ', 'old.mom cannot be set' },
      ['    if old.mom > 0 then new.x = 1 end'] = { 'after:7: ', '< or >' },
      ['    new.x = sum(old.mom)'] = { 'after:7: ', "new.x has the weight's shape" },
      ['\n    error("no")'] = { 'after:8: no' },
      ['    while true do end'] = { 'after:7: ', 'must end' },
    } do
      local store = with_momentum()
      local ok, message = pcall(store.set_optimizer, store, optim.load(script(body)))
      assert.is_false(ok, body)
      for _, word in ipairs(words) do
        assert.is_truthy(message:find(word, 1, true), body .. ': ' .. message)
      end
      assert.same({ 'sgd', 1 }, { store:optimizer().name, store:optimizer().version })
      push(store)
      assert.same(all(-2.5 - 1.75), value_of(store, 'w'))
    end
  end)
end)

it('a swap keeps the master of 16-bit weights, which set_hyper cannot do away with', function()
  local store, out = neap.kv.create(), nd.ones(1, { dtype = 'float16' })
  local g = nd.full(1, -1, { dtype = 'float16' })
  store:init('w', out)
  for _ = 1, 8 do -- each step is a quarter of what float16 can tell from 1
    store:set_optimizer(optim.sgd { learning_rate = 2 ^ -12, multi_precision = true })
    store:push('w', g)
  end
  store:pull('w', out)
  assert.equal(1 + 2 ^ -9, out:item())
  local ok, message = pcall(store.set_hyper, store, { multi_precision = false })
  assert.is_false(ok)
  assert.is_truthy(message:find('multi_precision cannot change', 1, true), message)
  store:set_hyper { multi_precision = true } -- as it is
end)
