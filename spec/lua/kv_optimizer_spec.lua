-- SPDX-License-Identifier: MIT
-- Stores with an optimizer: updates, settings, swapping, states in files.

local neap = require 'neap'
local nd, kv, optim = neap.nd, neap.kv, neap.optim

local TYPES = { 'local', 'local_allreduce_cpu', 'local_update_cpu', 'device',
  'local_allreduce_device' }

local function value_of(store, key, shape)
  local out = nd.zeros(shape or { 3 })
  store:pull(key, out)
  return out:totable()
end

local function assert_near(expected, actual)
  assert.equal(#expected, #actual)
  for i = 1, #expected do
    assert.is_true(math.abs(expected[i] - actual[i]) <= 1e-6 * math.max(1, math.abs(expected[i])),
      ('%.9g is not %.9g'):format(actual[i], expected[i]))
  end
end

for _, kind in ipairs(TYPES) do
  describe(('a store of type %s with an optimizer'):format(kind), function()
    local store

    before_each(function() store = kv.create(kind) end)
    after_each(function() store:close() end)

    it('makes -0.01 of zeros by default sgd and a gradient of ones', function()
      store:init('w', nd.zeros({ 3 }))
      store:set_optimizer(optim.sgd {})
      store:push('w', nd.ones({ 3 }))
      assert_near({ -0.01, -0.01, -0.01 }, value_of(store, 'w'))
    end)

    it('updates by the sum over devices, once', function()
      store:init('w', nd.zeros({ 3 }))
      store:set_optimizer(optim.sgd { learning_rate = 1, momentum = 0.5 })
      local four = {}
      for i = 1, 4 do four[i] = nd.ones({ 3 }, { ctx = neap.cpu(i - 1) }) end
      store:push('w', four)           -- mom -4
      store:push('w', nd.ones({ 3 })) -- mom -2 - 1
      store:push('w', four)           -- mom -1.5 - 4
      assert_near({ -12.5, -12.5, -12.5 }, value_of(store, 'w'))
    end)

    it('steps by the learning rate at first, with adam', function()
      store:init({ 1, 2 }, { nd.zeros({ 3 }), nd.ones({ 3 }) })
      store:set_optimizer(optim.adam { learning_rate = 0.5 })
      store:push({ 1, 2 }, { nd.array { 1, -2, 30 }, nd.array { -1, 2, 3 } })
      assert_near({ -0.5, 0.5, -0.5 }, value_of(store, 1))
      assert_near({ 1.5, 0.5, 0.5 }, value_of(store, 2))
    end)

    it('does not see what is done to a pushed gradient afterwards', function()
      store:init('w', nd.zeros({ 5000 }))
      store:set_optimizer(optim.sgd { learning_rate = 1 })
      for _ = 1, 100 do
        local gradient = nd.ones({ 5000 })
        store:push('w', gradient)
        gradient:set(1000)
      end
      local out = nd.zeros({ 5000 })
      store:pull('w', out)
      assert.equal(-100 * 5000, nd.sum(out):item())
    end)

    it('updates on pushpull', function()
      local out = nd.zeros({ 3 })
      store:init('w', nd.zeros({ 3 }))
      store:set_optimizer(optim.sgd { learning_rate = 1 })
      store:pushpull('w', nd.ones({ 3 }), out)
      assert.same({ -1, -1, -1 }, out:totable())
    end)

    it('takes a new rate and other settings from the next push on', function()
      store:init('w', nd.zeros({ 3 }))
      store:set_optimizer(optim.sgd { learning_rate = 1 })
      store:push('w', nd.ones({ 3 }))
      store:set_learning_rate(0.25)
      store:push('w', nd.ones({ 3 }))
      assert.same({ -1.25, -1.25, -1.25 }, value_of(store, 'w'))
      store:set_hyper { learning_rate = 1, rescale_grad = 0.5 }
      store:push('w', nd.ones({ 3 }))
      assert.same({ -1.75, -1.75, -1.75 }, value_of(store, 'w'))
      assert.has_error(function() store:set_learning_rate('fast') end)
      assert.has_error(function() store:set_hyper(3) end)
    end)

    it('tells what updates', function()
      assert.is_nil(store:optimizer())
      assert.equal(1, store:set_optimizer(optim.sgd { learning_rate = 0.5 }))
      local now = store:optimizer()
      assert.equal('sgd', now.name)
      assert.equal(1, now.version)
      assert.equal(0.5, now.settings.learning_rate)
      assert.matches('^%x+$', now.hash)
      assert.equal(2, store:set_optimizer(optim.adam {}))
      assert.equal(2, store:optimizer().version)
      assert.equal('adam', store:optimizer().name)
      store:set_updater(function() end)
      assert.is_nil(store:optimizer())
      assert.equal(3, store:set_optimizer(optim.sgd {}))
    end)

    it('keeps states of the same name when an optimizer is set again', function()
      store:init('w', nd.zeros({ 3 }))
      store:set_optimizer(optim.sgd { learning_rate = 1, momentum = 0.5 })
      store:push('w', nd.ones({ 3 })) -- mom -1
      store:set_optimizer(optim.sgd { learning_rate = 1, momentum = 0.5 })
      store:push('w', nd.ones({ 3 })) -- mom -1.5
      assert.same({ -2.5, -2.5, -2.5 }, value_of(store, 'w'))
      store:set_optimizer(optim.load([[return { name = 'coast', state = { 'mom' },
        update = function(w, g, s, p) return w + s.mom end }]], {}))
      store:push('w', nd.ones({ 3 }))
      assert.same({ -4, -4, -4 }, value_of(store, 'w'))
      store:set_optimizer(optim.adam { learning_rate = 1 }) -- starts afresh
      store:push('w', nd.ones({ 3 }))
      assert_near({ -5, -5, -5 }, value_of(store, 'w'))
    end)

    it('goes back to the optimizer before, one step, with its version and states', function()
      assert.has_error(function() store:rollback_optimizer() end)
      store:init('w', nd.zeros({ 3 }))
      store:set_optimizer(optim.sgd { learning_rate = 0.5, momentum = 0.5 })
      store:push('w', nd.ones({ 3 })) -- mom -0.5
      assert.equal(2, store:set_optimizer(optim.sgd { learning_rate = 1 }))
      store:push('w', nd.ones({ 3 })) -- w -1.5
      assert.equal(1, store:rollback_optimizer())
      assert.equal(0.5, store:optimizer().settings.learning_rate)
      store:push('w', nd.zeros({ 3 })) -- mom -0.25
      local out = nd.zeros({ 3 })
      store:pull('w', out)
      assert.same({ -1.75, -1.75, -1.75 }, out:totable())
      local _, why = pcall(store.rollback_optimizer, store)
      assert.matches('one step back is kept', why)
      assert.equal(3, store:set_optimizer(optim.sgd {})) -- a version is not given twice
    end)

    it('goes on with the schedule, whatever is swapped, deleted or begins afresh', function()
      local function halving() -- 1, 0.5, 0.25, ... by the store's number of updates
        return neap.lr_scheduler.factor { base_lr = 1, step = 1, factor = 0.5 }
      end
      local function script(state) -- t of a key with fresh states begins at 1
        return optim.load(([[return { name = 'script', state = { '%s' },
          update = function(w, g, s, p)
            s.%s = s.%s + g
            return w - p.learning_rate * g + 100 * p.t * g
          end }]]):gsub('%%s', state), { lr_scheduler = halving() })
      end
      local function step(expected)
        store:push('w', nd.ones({ 3 }))
        assert_near({ expected, expected, expected }, value_of(store, 'w'))
        store:push('w', nd.zeros({ 3 }))
      end
      store:init('w', nd.zeros({ 3 }))
      store:set_optimizer(script('a'))
      step(100 - 1)
      step(99 + 300 - 0.25)
      store:set_optimizer(script('a')) -- all states go on, and so does t
      step(398.75 + 500 - 2 ^ -4)
      store:set_optimizer(script('b'))
      step(898.6875 + 100 - 2 ^ -6)
      store:delete('w')
      store:init('w', nd.zeros({ 3 }))
      step(100 - 2 ^ -8)
    end)

    it('serves one optimizer, and an optimizer one store', function()
      local o = optim.sgd {}
      store:set_optimizer(o)
      local other = kv.create(kind)
      assert.has_error(function() other:set_optimizer(o) end)
      assert.is_nil(other:optimizer())
      store:close()
      other:set_optimizer(o)
      assert.equal('sgd', other:optimizer().name)
      other:close()
    end)

    it('updates only the rows present, by an optimizer that is lazy', function()
      local shape = { 4, 3 }
      local function rows(ids, value)
        return nd.sparse.row_sparse(nd.full({ #ids, 3 }, value), ids, shape)
      end
      store:init({ 'dense', 'rows' }, { nd.ones(shape), nd.ones(shape):tostype('row_sparse') })
      store:set_optimizer(optim.sgd { learning_rate = 1, momentum = 0.5 })
      for _, key in ipairs { 'dense', 'rows' } do
        store:push(key, rows({ 1 }, 2))                     -- mom -2: 1 - 2 = -1
        store:push(key, { rows({ 0 }, 1), rows({ 0 }, 1) }) -- 1 - 2 = -1
        store:push(key, rows({ 1 }, 1))                     -- mom -1 - 1: -1 - 2 = -3
        local expected = { { -1, -1, -1 }, { -3, -3, -3 }, { 1, 1, 1 }, { 1, 1, 1 } }
        assert.same(expected, value_of(store, key, shape))
        local out = nd.sparse.zeros('row_sparse', shape)
        store:row_sparse_pull(key, out, { 1, 0 })
        assert.same({ 0, 1 }, out.indices:totable())
        assert.same({ expected[1], expected[2] }, out.values:totable())
      end
      local out = nd.sparse.zeros('row_sparse', shape)
      store:pull('rows', out, { ignore_sparse = false })
      assert.same({ 0, 1, 2, 3 }, out.indices:totable())
      assert.same({ -3, -3, -3 }, out:tostype('default'):at(1):totable())
      assert.error_matches(function() store:push('rows', nd.ones(shape)) end, 'row_sparse')
    end)

    it('raises a wrong push and updates nothing', function()
      store:init({ 'w', 'v' }, { nd.zeros({ 3 }), nd.zeros({ 4 }) })
      store:set_optimizer(optim.sgd { learning_rate = 1 })
      assert.has_error(function() store:push({ 'w', 'v' }, { nd.ones({ 3 }), nd.ones({ 3 }) }) end)
      assert.has_error(function() store:push('x', nd.ones({ 3 })) end)
      assert.has_error(function() store:pushpull('w', nd.ones({ 3 }), nd.ones({ 4 })) end)
      assert.same({ 0, 0, 0 }, value_of(store, 'w'))
      store:push('w', nd.ones({ 3 }))
      assert.same({ -1, -1, -1 }, value_of(store, 'w'))
    end)

    it('raises a late error to who reads, once, and goes on', function()
      store:init('w', nd.zeros({ 4, 3 }))
      store:set_optimizer(optim.sgd { learning_rate = 1, momentum = 0.5 })
      local function rows(id) return nd.sparse.row_sparse(nd.ones({ 1, 3 }), { id }, { 4, 3 }) end
      store:push('w', { rows(0), rows(1) })
      store:push('w', { rows(1), rows(7) }) -- there is no row 7
      assert.has_error(function() value_of(store, 'w', { 4, 3 }) end)
      store:push('w', { rows(0), rows(2) })
      assert.same({ { -2.5, -2.5, -2.5 }, { -1, -1, -1 }, { -1, -1, -1 }, { 0, 0, 0 } },
        value_of(store, 'w', { 4, 3 }))
    end)

    it('forgets the states of a deleted key', function()
      store:set_optimizer(optim.sgd { learning_rate = 1, momentum = 1 })
      for _ = 1, 3 do
        store:init('w', nd.zeros({ 3 }))
        store:push('w', nd.ones({ 3 }))
        assert.same({ -1, -1, -1 }, value_of(store, 'w')) -- momentum would show
        store:delete('w')
      end
      store:init('w', nd.zeros({ 4 })) -- of another shape
      store:push('w', nd.ones({ 4 }))
      assert.same({ -1, -1, -1, -1 }, value_of(store, 'w', { 4 }))
    end)
  end)

  describe(('optimizer states of a store of type %s'):format(kind), function()
    local path, stores

    before_each(function()
      path, stores = os.tmpname(), {}
    end)
    after_each(function()
      os.remove(path)
      for _, store in ipairs(stores) do store:close() end
    end)

    local function new_store(keys)
      local store = kv.create(kind)
      stores[#stores + 1] = store
      for i, key in ipairs(keys) do store:init(key, nd.full({ i, 3 }, i)) end
      return store
    end

    local function adam() return optim.adam { learning_rate = 0.1, wd = 0.01 } end

    local function gradient(i, step)
      neap.seed(1000 * step + i)
      return nd.random.uniform(-1, 1, { i, 3 })
    end

    local function train(store, keys, from, to)
      for step = from, to do
        for i, key in ipairs(keys) do
          if step % i == 0 then store:push(key, gradient(i, step)) end -- counts differ
        end
      end
    end

    local function weights(store, keys)
      local all = {}
      for i, key in ipairs(keys) do
        local out = nd.zeros({ i, 3 })
        store:pull(key, out)
        all[i] = out:totable()
      end
      return all
    end

    -- Another store with the same weights.
    local function copy_of(store, keys)
      local copy = kv.create(kind)
      stores[#stores + 1] = copy
      for i, key in ipairs(keys) do
        local out = nd.zeros({ i, 3 })
        store:pull(key, out)
        copy:init(key, out)
      end
      return copy
    end

    local KEYS = {
      texts = { 'w', 'a/b', 'a%2Fb', '', '7', '#7', 'ä\0\n"\\', '__metadata__', 'x y=1' },
      numbers = { 7, 0, -3, 2 ^ 53, -2 ^ 53 },
    }

    for name, keys in pairs(KEYS) do
      it(('go on bit for bit in another store, keys being ' .. name), function()
        local store = new_store(keys)
        store:set_optimizer(adam())
        train(store, keys, 1, 10)
        store:save_optimizer_states(path)
        local other = copy_of(store, keys)
        other:set_optimizer(adam())
        other:load_optimizer_states(path)
        train(store, keys, 11, 20)
        train(other, keys, 11, 20)
        assert.same(weights(store, keys), weights(other, keys))
      end)

      it(('bring their optimizer along when it is dumped, keys being ' .. name), function()
        local store = new_store(keys)
        store:set_optimizer(adam())
        store:set_hyper { beta1 = 0.8 }
        train(store, keys, 1, 10)
        store:save_optimizer_states(path, true)
        local other = copy_of(store, keys)
        other:load_optimizer_states(path)
        assert.equal('adam', other:optimizer().name)
        assert.same(store:optimizer().settings, other:optimizer().settings)
        assert.equal(store:optimizer().hash, other:optimizer().hash)
        train(store, keys, 11, 20)
        train(other, keys, 11, 20)
        assert.same(weights(store, keys), weights(other, keys))
      end)
    end

    it('differ from a store that starts afresh', function() -- so that the above shows something
      local keys = KEYS.texts
      local store = new_store(keys)
      store:set_optimizer(adam())
      train(store, keys, 1, 10)
      local other = copy_of(store, keys)
      other:set_optimizer(adam())
      train(store, keys, 11, 20)
      train(other, keys, 11, 20)
      assert.not_same(weights(store, keys), weights(other, keys))
    end)

    it('may be loaded before the keys are initialized', function()
      local keys = { 'a', 'b' }
      local store = new_store(keys)
      store:set_optimizer(adam())
      train(store, keys, 1, 6)
      store:save_optimizer_states(path, true)
      local expected = weights(store, keys)
      local other = kv.create(kind)
      stores[#stores + 1] = other
      other:load_optimizer_states(path)
      for i, key in ipairs(keys) do other:init(key, nd.array(expected[i])) end
      train(store, keys, 7, 9)
      train(other, keys, 7, 9)
      assert.same(weights(store, keys), weights(other, keys))
    end)

    it('stand in a .safetensors file, one tensor for each key and state', function()
      local store = new_store { 'w', 'v' }
      store:set_optimizer(optim.sgd { learning_rate = 1, momentum = 0.5 })
      store:push({ 'w', 'v' }, { nd.ones({ 1, 3 }), nd.ones({ 2, 3 }) })
      store:save_optimizer_states(path .. '.safetensors')
      local all = nd.load(path .. '.safetensors')
      os.remove(path .. '.safetensors')
      assert.same({ { -1, -1, -1 } }, all['w/mom']:totable())
      assert.same({ { -1, -1, -1 }, { -1, -1, -1 } }, all['v/mom']:totable())
    end)

    it('are refused from a file that is damaged, missing, of something else', function()
      local store = new_store { 'w' }
      assert.error_matches(function() store:load_optimizer_states('/nonexistent/x') end,
        '/nonexistent/x')
      nd.save(path .. '.safetensors', { x = nd.ones({ 2 }) })
      assert.error_matches(function() store:load_optimizer_states(path .. '.safetensors') end,
        'not a file of save_optimizer_states')
      os.remove(path .. '.safetensors')
      local file = io.open(path, 'w')
      file:write('nonsense')
      file:close()
      assert.has_error(function() store:load_optimizer_states(path) end)

      store:set_optimizer(adam())
      store:push('w', nd.ones({ 1, 3 }))
      store:save_optimizer_states(path)
      local other = kv.create(kind)
      stores[#stores + 1] = other
      assert.error_matches(function() other:load_optimizer_states(path) end, 'set_optimizer')
      other:set_optimizer(optim.sgd {})
      assert.error_matches(function() other:load_optimizer_states(path) end, 'adam.*sgd')
      other:set_optimizer(adam())
      other:init('w', nd.ones({ 5 }))
      assert.error_matches(function() other:load_optimizer_states(path) end, 'w.*mean.*1,3.*5')
      assert.has_error(function() store:save_optimizer_states('/nonexistent/x') end)
      assert.has_error(function() store:save_optimizer_states(3) end)
      assert.has_error(function() store:load_optimizer_states() end)
    end)
  end)
end
