-- SPDX-License-Identifier: MIT
-- What every type of store does with dense values. The numbers are sums that a reader can do.

local neap = require 'neap'
local C = require 'neap.ffi'
local context = require 'neap.context'
local nd, kv = neap.nd, neap.kv

local TYPES = { 'local', 'local_allreduce_cpu', 'local_update_cpu', 'device',
  'local_allreduce_device' }

local function full(value, shape, ctx) return nd.full(shape or { 2, 3 }, value, { ctx = ctx }) end

-- All elements of an array are this number.
local function assert_all(value, a)
  local flat = a:reshape({ -1 }):totable()
  for i = 1, #flat do assert.equal(value, flat[i]) end
end

-- One array on each of n logical devices.
local function on_devices(n, value, shape)
  local list = {}
  for i = 1, n do list[i] = full(value, shape, neap.cpu(i - 1)) end
  return list
end

for _, kind in ipairs(TYPES) do
  describe(('a store of type %s'):format(kind), function()
    local store

    before_each(function() store = kv.create(kind) end)
    after_each(function() store:close() end)

    it('says its name, and that it is alone', function()
      assert.equal(kind, store.type)
      assert.equal(0, store.rank)
      assert.equal(1, store.num_workers)
      assert.equal(0, store.num_servers)
    end)

    it('gives back what init was given', function()
      local out = nd.zeros({ 2, 3 })
      store:init('w', nd.ones({ 2, 3 }) * 2)
      store:pull('w', out)
      assert_all(2, out)
    end)

    it('holds what was pushed when nothing updates', function()
      local out = nd.zeros({ 2, 3 })
      store:init('w', nd.ones({ 2, 3 }) * 2)
      store:push('w', nd.ones({ 2, 3 }) * 8)
      store:pull('w', out)
      assert_all(8, out)
    end)

    it('adds up what four devices push', function()
      local out = nd.zeros({ 2, 3 })
      store:init('w', nd.zeros({ 2, 3 }))
      store:push('w', on_devices(4, 1))
      store:pull('w', out)
      assert_all(4, out)
    end)

    it('takes lists of keys with lists of devices, and fills all outs', function()
      local keys, values, outs = { 'a', 'b', 'c' }, {}, {}
      for i = 1, 3 do values[i], outs[i] = on_devices(4, 1), on_devices(4, 0) end
      store:init(keys, { full(0), full(0), full(0) })
      store:push(keys, values)
      store:pull(keys, outs)
      for i = 1, 3 do
        for k = 1, 4 do assert_all(4, outs[i][k]) end
      end
    end)

    it('keeps the shapes and dtypes of keys apart', function()
      for key, dtype in ipairs { 'float32', 'float64', 'float16', 'bfloat16', 'int8', 'uint8',
        'int32', 'int64' } do
        local shape = { key, 2 }
        store:init(key, nd.full(shape, key, { dtype = dtype }))
        store:push(key, { nd.full(shape, 3, { dtype = dtype }),
          nd.full(shape, 4, { dtype = dtype }) })
        local out = nd.zeros(shape, { dtype = dtype })
        store:pull(key, out)
        assert_all(7, out:astype('float64'))
      end
    end)

    it('takes arrays without dimensions, and without elements', function()
      store:init({ 'number', 'nothing' }, { nd.ones({}), nd.ones({ 0, 3 }) })
      store:push({ 'number', 'nothing' }, { { nd.ones({}), nd.ones({}) }, nd.ones({ 0, 3 }) })
      local number, nothing = nd.zeros({}), nd.zeros({ 0, 3 })
      store:pull({ 'number', 'nothing' }, { number, nothing })
      assert.equal(2, number:item())
      assert.equal(0, nothing.size)
    end)

    it('does not see what is done to a pushed array afterwards', function()
      store:init('w', nd.zeros({ 64, 64 }))
      for i = 1, 200 do
        local pushed, out = full(i, { 64, 64 }), nd.zeros({ 64, 64 })
        store:push('w', pushed)
        pushed:mul_(-1)
        store:pull('w', out)
        out:add_(1) -- nor of what is done to an array pulled into
        local again = nd.zeros({ 64, 64 })
        store:pull('w', again)
        assert.equal(i * 4096, nd.sum(again):item())
        assert.equal(-i * 4096, nd.sum(pushed):item())
      end
    end)

    it('does not see what is done to an array given to init', function()
      local first, out = nd.ones({ 5 }), nd.zeros({ 5 })
      store:init('w', first)
      first:add_(1)
      store:pull('w', out)
      assert_all(1, out)
    end)

    it('leaves pushed arrays as they were', function()
      local list = on_devices(3, 5)
      store:init('w', full(0))
      for _ = 1, 50 do store:push('w', list) end
      for i = 1, 3 do assert_all(5, list[i]) end
    end)

    it('does not keep a pushed array: a later pull into it leaves the store alone', function()
      local a, out = full(3), full(0)
      store:init('w', full(1))
      store:init('v', full(9))
      store:push('w', a)
      store:pull('v', a)
      store:pull('w', out)
      assert_all(3, out)
      assert_all(9, a)
    end)

    it('pulls what earlier pushes made, in order, whatever the priorities', function()
      store:init('w', full(0))
      local outs = {}
      for i = 1, 300 do
        outs[i] = full(0)
        store:push('w', full(i), i % 7)
        store:pull('w', outs[i], { priority = -i })
      end
      for i = 1, 300 do assert_all(i, outs[i]) end
    end)

    it('takes the same array several times in one push', function()
      local a, out = full(2), full(0)
      store:init('w', full(0))
      store:push('w', { a, a, a })
      store:pull('w', out)
      assert_all(6, out)
    end)

    it('pushes a key twice that is listed twice, in order', function()
      local seen, out = {}, full(0)
      store:init('w', full(1))
      store:push({ 'w', 'w' }, { full(5), full(6) })
      store:pull('w', out)
      assert_all(6, out)
      store:set_updater(function(_, pushed, stored)
        seen[#seen + 1] = pushed:at(0):at(0):item()
        stored:add_(pushed)
      end)
      store:push({ 'w', 'w' }, { full(5), { full(6), full(7) } })
      store:pull('w', out)
      assert_all(24, out)
      assert.same({ 5, 13 }, seen)
    end)

    it('takes views, and pulls into views', function()
      local table_ = nd.arange(0, 12, 1):reshape({ 4, 3 })
      local out = nd.zeros({ 4, 3 })
      store:init('w', nd.zeros({ 2, 3 }))
      store:push('w', table_:slice(1, 3))
      store:pull('w', out:slice(2, 4))
      assert.same({ { 0, 0, 0 }, { 0, 0, 0 }, { 3, 4, 5 }, { 6, 7, 8 } }, out:totable())
    end)

    it('pushes and pulls in one call', function()
      local out = full(0)
      store:init('w', full(0))
      store:pushpull('w', on_devices(2, 3), out)
      assert_all(6, out)
      local both = on_devices(2, 5)
      store:pushpull('w', both) -- into what was pushed
      assert_all(10, both[1])
      assert_all(10, both[2])
    end)

    it('broadcasts: init, then pull', function()
      local outs = on_devices(3, 0)
      store:broadcast('w', full(7), outs)
      for i = 1, 3 do assert_all(7, outs[i]) end
      local a, b = full(0), full(0)
      store:broadcast({ 'x', 'y' }, { full(1), full(2) }, { a, { b } })
      assert_all(1, a)
      assert_all(2, b)
      assert.has_error(function() store:broadcast('w', full(7), outs) end)
    end)

    it('calls the updater with key, sum and stored value', function()
      local seen
      store:init('w', full(4))
      store:set_updater(function(key, pushed, stored)
        seen = key
        stored:add_(pushed * 2)
      end)
      store:push('w', full(1))
      local out = full(0)
      store:pull('w', out)
      assert_all(6, out)
      assert.equal('w', seen)
      store:push('w', on_devices(4, 1))
      store:pull('w', out)
      assert_all(14, out)
    end)

    it('calls the updater for each key of a list, and on pushpull', function()
      local seen, a, b = {}, full(0), full(0)
      store:init({ 1, 2 }, { full(1), full(2) })
      store:set_updater(function(key, pushed, stored)
        seen[#seen + 1] = key
        stored:sub_(pushed)
        pushed:mul_(0) -- the sum is a copy: this changes nothing else
      end)
      local value = full(1)
      store:pushpull({ 2, 1 }, { value, value }, { b, a })
      assert.same({ 2, 1 }, seen)
      assert_all(0, a)
      assert_all(1, b)
      assert_all(1, value)
    end)

    it('passes on what the updater raises, and goes on', function()
      local out = full(0)
      store:init('w', full(4))
      store:set_updater(function() error('no more') end)
      assert.has_error(function() store:push('w', full(1)) end)
      store:pull('w', out)
      assert_all(4, out)
      store:set_updater(nil)
      store:push('w', full(1))
      store:pull('w', out)
      assert_all(1, out)
    end)

    it('lets an updater use the store', function()
      store:init({ 'a', 'copy' }, { full(1), full(0) })
      store:set_updater(function(key, pushed, stored)
        stored:set(pushed)
        if key == 'a' then store:push('copy', pushed * 10) end
      end)
      store:push('a', full(3))
      local a, copy = full(0), full(0)
      store:pull({ 'a', 'copy' }, { a, copy })
      assert_all(3, a)
      assert_all(30, copy)
    end)

    it('tells its keys in the order of their init, and forgets deleted ones', function()
      store:init('b', full(1))
      store:init({ 'a', 'c' }, { full(2), full(3) })
      assert.same({ 'b', 'a', 'c' }, store:keys())
      assert.is_true(store:contains('a'))
      store:delete('a')
      assert.is_false(store:contains('a'))
      assert.is_false(store:contains(1))
      assert.same({ 'b', 'c' }, store:keys())
      assert.has_error(function() store:push('a', full(1)) end)
      store:init('a', nd.ones({ 7 })) -- again, of another shape
      assert.same({ 'b', 'c', 'a' }, store:keys())
      store:delete({ 'b', 'c' })
      assert.same({ 'a' }, store:keys())
      local out = nd.zeros({ 7 })
      store:pull('a', out)
      assert_all(1, out)
    end)

    it('takes numbers for keys, up to 2^53 either way, and odd texts', function()
      local numbers = { 0, 7, -7, 2 ^ 53, -2 ^ 53 }
      for i, key in ipairs(numbers) do store:init(key, full(i)) end
      local out = full(0)
      for i, key in ipairs(numbers) do
        store:pull(key, out)
        assert_all(i, out)
      end
      assert.same(numbers, store:keys())
      store:pull(7LL, out)
      assert_all(2, out)
      local texts = kv.create(kind)
      local odd = { '', 'a\0b', 'a\0c', '7', 'ключ', ('x'):rep(4096) }
      for i, key in ipairs(odd) do texts:init(key, full(i)) end
      for i, key in ipairs(odd) do
        texts:pull(key, out)
        assert_all(i, out)
      end
      assert.same(odd, texts:keys())
      texts:close()
    end)

    it('holds a thousand keys', function()
      local keys, values, outs = {}, {}, {}
      for i = 1, 1000 do
        keys[i], values[i], outs[i] = 'key' .. i, full(i, { 2 }), full(0, { 2 })
      end
      store:init(keys, values)
      store:push(keys, values)
      store:pull(keys, outs)
      for i = 1, 1000 do assert_all(i, outs[i]) end
    end)

    it('takes no keys at all', function()
      store:init({}, {})
      store:push({}, {})
      store:pull({}, {})
      assert.same({}, store:keys())
    end)

    it('fills several large outs, while pushes go on', function()
      store:init('w', full(0, { 1000, 100 }))
      for i = 1, 20 do
        local outs = on_devices(4, 0, { 1000, 100 })
        store:push('w', on_devices(2, i, { 1000, 100 }))
        store:pull('w', outs)
        for k = 1, 4 do assert.equal(2 * i * 100000, nd.sum(outs[k]):item()) end
      end
    end)

    it('waits at a barrier until what was pushed is there', function()
      store:init('w', full(0))
      store:push('w', full(1))
      store:barrier()
    end)

    it('answers what a single process can', function()
      assert.is_true(store:is_capable('optimizer'))
      assert.has_error(function() store:is_capable('flying') end)
      assert.same({}, store:send_command_to_servers(1, 'stop'))
      assert.has_error(function() store:send_command_to_servers('x', 1) end)
    end)

    it('can be closed twice, and raises afterwards', function()
      store:init('w', full(1))
      store:push('w', full(2))
      local out = full(0)
      store:pull('w', out)
      store:close()
      store:close()
      assert_all(2, out) -- what was queued is done
      for _, call in ipairs {
        function() store:init('v', full(1)) end,
        function() store:push('w', full(1)) end,
        function() store:pull('w', full(1)) end,
        function() store:pushpull('w', full(1)) end,
        function() store:keys() end,
        function() store:contains('w') end,
        function() store:delete('w') end,
        function() store:barrier() end,
        function() store:set_updater(print) end,
        function() store:optimizer() end,
      } do
        assert.error_matches(call, 'closed')
      end
    end)

    it('is closed by the collector when it is forgotten', function()
      local function make_and_forget(n)
        for _ = 1, n do kv.create(kind):init('w', nd.ones({ 1000, 100 })) end -- 0.4 MB each
        collectgarbage()
        collectgarbage()
        neap.waitall()
        for _ = 1, 1000 do -- memory comes back behind the work that used it
          if C.neap_poll(context.handle(), 1000) == 0 then break end
        end
        return neap.counters().bytes
      end
      local before = make_and_forget(5)
      assert.is_true(make_and_forget(40) < before + 2e6)
    end)
  end)
end

describe('kv.create', function()
  it('makes a local store without a name', function()
    local store = kv.create()
    assert.equal('local', store.type)
    store:close()
  end)

  it('wants a name that is a string', function()
    for _, name in ipairs { 1, true, {} } do
      assert.error_matches(function() kv.create(name) end, 'name must be a string')
    end
  end)

  it('lists the valid names for an unknown one', function()
    local ok, message = pcall(kv.create, 'Local')
    assert.is_false(ok)
    assert.matches("'Local'", message, 1, true)
    for _, name in ipairs { 'local', 'local_allreduce_cpu', 'local_update_cpu', 'device',
      'local_allreduce_device', 'nccl', 'dist', 'dist_sync', 'dist_sync_device',
      'dist_device_sync', 'dist_async', 'dist_async_device', 'dist_device_async' } do
      assert.matches(' ' .. name .. ' ', message .. ' ', 1, true)
    end
  end)

  it('says what nccl needs', function()
    assert.error_matches(function() kv.create('nccl') end, 'GPU.*NCCL')
  end)

  it('shows the launch command for dist stores outside of a job', function()
    for _, name in ipairs { 'dist', 'dist_sync', 'dist_sync_device', 'dist_device_sync',
      'dist_async', 'dist_async_device', 'dist_device_async' } do
      local ok, message = pcall(kv.create, name)
      assert.is_false(ok)
      assert.matches(name, message, 1, true)
      assert.matches('neap launch -n 2 -s 1 luajit train.lua', message, 1, true)
    end
  end)

  it('refuses options that there are not', function()
    kv.create('local', {}):close()
    assert.error_matches(function() kv.create('local', { timeout = 3 }) end, 'timeout')
    assert.has_error(function() kv.create('local', 3) end)
  end)
end)
