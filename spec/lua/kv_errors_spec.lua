-- SPDX-License-Identifier: MIT
-- Mistakes: each raises at the call, in the caller's line, with key and shapes, and changes
-- nothing.

local neap = require 'neap'
local nd, kv = neap.nd, neap.kv

local TYPES = { 'local', 'local_allreduce_cpu', 'local_update_cpu', 'device',
  'local_allreduce_device' }

local function sparse(shape, dtype)
  return nd.sparse.zeros('row_sparse', shape, { dtype = dtype })
end

for _, kind in ipairs(TYPES) do
  describe(('a store of type %s'):format(kind), function()
    local store

    before_each(function()
      store = kv.create(kind)
      store:init({ 'w', 'v' }, { nd.full({ 2, 3 }, 5), nd.full({ 4 }, 6) })
      store:init('s', sparse({ 6, 2 }))
    end)
    after_each(function() store:close() end)

    -- What is stored is what init gave.
    local function assert_unchanged()
      local w, v = nd.zeros({ 2, 3 }), nd.zeros({ 4 })
      store:pull({ 'w', 'v' }, { w, v })
      assert.same({ { 5, 5, 5 }, { 5, 5, 5 } }, w:totable())
      assert.same({ 6, 6, 6, 6 }, v:totable())
      assert.same({ 'w', 'v', 's' }, store:keys())
    end

    -- The call raises, at a line of this file, with all these texts in the message.
    local function assert_raises(call, ...)
      local ok, message = pcall(call)
      assert.is_false(ok)
      assert.matches('kv_errors_spec.lua:%d+: ', message)
      for _, text in ipairs { ... } do assert.matches(text, message, 1, true) end
      assert_unchanged()
    end

    it('refuses unknown keys', function()
      local a = nd.ones({ 2, 3 })
      assert_raises(function() store:push('x', a) end, "push: key 'x'", '(2,3)')
      assert_raises(function() store:pull('x', a) end, "pull: key 'x'", '(2,3)')
      assert_raises(function() store:pushpull('x', a) end, "pushpull: key 'x'", '(2,3)')
      assert_raises(function() store:row_sparse_pull('x', sparse({ 2, 3 }), { 0 }) end,
        "row_sparse_pull: key 'x'", '(2,3)')
      assert_raises(function() store:delete('x') end, "delete: key 'x'")
      assert_raises(function() store:delete { 'w', 'x' } end, "delete: key 'x'")
      assert_raises(function() store:push({ 'w', 'x' }, { a, a }) end, "key 'x'")
    end)

    it('refuses lists that mix kinds of keys, and keys of the other kind', function()
      local a = nd.ones({ 2, 3 })
      assert_raises(function() store:push({ 'w', 1 }, { a, a }) end,
        'inconsistent types of keys')
      assert_raises(function() store:init({ 'p', 1 }, { a, a }) end,
        'inconsistent types of keys', 'key 1')
      assert_raises(function() store:init(1, a) end, 'inconsistent types of keys', 'key 1')
      assert_raises(function() store:pull(1, a) end, 'inconsistent types of keys')
      local fresh = kv.create(kind)
      assert.error_matches(function() fresh:init({ 1, 'a' }, { a, a }) end,
        'inconsistent types of keys')
      fresh:init('a', a) -- the failed call decided nothing
      fresh:close()
    end)

    it('refuses keys that are neither strings nor integers', function()
      local a = nd.ones({ 2, 3 })
      for _, key in ipairs { 1.5, true, 2 ^ 53 + 2, 1 / 0, function() end } do
        assert_raises(function() store:init(key, a) end, 'init: keys are strings or integers')
        assert_raises(function() store:push(key, a) end, 'push: keys are strings or integers')
      end
      assert_raises(function() store:init(nil, a) end, 'keys are strings or integers')
      assert_raises(function() store:init(0 / 0, a) end, 'keys are strings or integers')
      assert_raises(function() store:init({ key = 1 }, a) end, 'a list')
      assert_raises(function() store:init(('x'):rep(4097), a) end, '4096')
    end)

    it('refuses a second init', function()
      assert_raises(function() store:init('w', nd.ones({ 9, 9 })) end, "init: key 'w'", '(9,9)',
        '(2,3)')
      local one, six = nd.ones({ 1 }), nd.ones({ 2, 3 })
      assert_raises(function() store:init({ 'new', 'w' }, { one, six }) end, "key 'w'", '(2,3)')
      assert_raises(function() store:init({ 'new', 'new' }, { nd.ones({ 1 }), nd.ones({ 2 }) }) end,
        "key 'new'", '(1,)', '(2,)')
      assert.is_false(store:contains('new'))
    end)

    it('refuses wrong shapes', function()
      local a = nd.ones({ 3, 2 })
      assert_raises(function() store:push('w', a) end, "push: key 'w'", '(3,2)', '(2,3)')
      assert_raises(function() store:push('v', a) end, "push: key 'v'", '(3,2)', '(4,)')
      assert_raises(function() store:push('w', { nd.ones({ 2, 3 }), a }) end, '(3,2)', '(2,3)')
      assert_raises(function() store:push({ 'w', 'v' }, { nd.ones({ 2, 3 }), a }) end,
        "push: key 'v'", '(3,2)', '(4,)')
      assert_raises(function() store:pull('w', a) end, "pull: key 'w'", '(3,2)', '(2,3)')
      assert_raises(function() store:pushpull('w', nd.ones({ 2, 3 }), a) end, '(3,2)', '(2,3)')
      assert_raises(function() store:broadcast('new', nd.ones({ 4 }), a) end, "key 'new'", '(3,2)',
        '(4,)')
      assert_raises(function() store:push('s', sparse({ 6, 3 })) end, "key 's'", '(6,3)', '(6,2)')
      assert.same({ { 1, 1 }, { 1, 1 }, { 1, 1 } }, a:totable())
    end)

    it('refuses wrong dtypes', function()
      local a = nd.ones({ 2, 3 }, { dtype = 'float64' })
      assert_raises(function() store:push('w', a) end, "push: key 'w'", 'float64', 'float32',
        '(2,3)', 'astype')
      assert_raises(function() store:pull('w', a) end, "pull: key 'w'", 'float64', 'float32')
      assert_raises(function() store:push('s', sparse({ 6, 2 }, 'float64')) end, 'float64')
    end)

    it('refuses wrong storage', function()
      local dense, rows = nd.ones({ 2, 3 }), sparse({ 2, 3 })
      assert_raises(function() store:push('s', nd.ones({ 6, 2 })) end, "push: key 's'", '(6,2)',
        'dense', 'row_sparse')
      assert_raises(function() store:push('w', { dense, rows }) end, "key 'w'", 'row_sparse',
        'dense', '(2,3)')
      assert_raises(function() store:push('w', { rows, dense }) end, "key 'w'", 'row_sparse',
        'dense', '(2,3)')
      assert_raises(function() store:pull('w', rows, { ignore_sparse = false }) end,
        "pull: key 'w'", 'row_sparse', 'dense', '(2,3)')
      assert_raises(function() store:row_sparse_pull('w', dense, { 0 }) end,
        "row_sparse_pull: key 'w'", 'dense', '(2,3)')
      assert.same({ { 1, 1, 1 }, { 1, 1, 1 } }, dense:totable())
    end)

    it('refuses values that are no arrays, and lists of wrong lengths', function()
      local a = nd.ones({ 2, 3 })
      assert_raises(function() store:push('w', 3) end, 'push: an array')
      assert_raises(function() store:push('w') end, 'push: an array', 'nil')
      assert_raises(function() store:push('w', 'text') end, 'push: an array', 'text')
      assert_raises(function() store:push('w', {}) end, "push: key 'w'", 'at least one')
      assert_raises(function() store:push('w', { a, 3 }) end, 'push: an array', '3')
      assert_raises(function() store:push('w', { { a } }) end, 'push: an array')
      assert_raises(function() store:push({ 'w', 'v' }, a) end, '2 keys')
      assert_raises(function() store:push({ 'w', 'v' }, { a }) end, '2 keys')
      assert_raises(function() store:pull('w') end, 'pull: an array', 'nil')
      assert_raises(function() store:pull('w', { a, {} }) end, 'pull: an array')
      assert_raises(function() store:init('new') end, 'init: an array', 'nil')
      assert_raises(function() store:init('new', {}) end, 'init: an array', 'nil')
      assert_raises(function() store:init({ 'p', 'q' }, { a }) end, '2 keys')
      local gone = nd.ones({ 2, 3 })
      gone:close()
      assert_raises(function() store:push('w', gone) end, 'closed')
      assert_raises(function() store:pull('w', gone) end, 'closed')
    end)

    it('refuses options that make no sense', function()
      local a = nd.ones({ 2, 3 })
      for _, opts in ipairs { 'high', 1.5, 2 ^ 40, { prio = 1 }, { priority = 'x' },
        { ignore_sparse = 1 }, true } do
        assert_raises(function() store:push('w', a, opts) end, 'push: ')
        assert_raises(function() store:pull('w', a, opts) end, 'pull: ')
        assert_raises(function() store:pushpull('w', a, a, opts) end, 'pushpull: ')
      end
      assert_raises(function() store:set_updater(3) end, 'set_updater')
      assert_raises(function() store:set_optimizer(3) end, 'set_optimizer')
      assert_raises(function() store:set_optimizer {} end, 'set_optimizer')
      assert_raises(function() store:set_learning_rate(1) end, 'no optimizer')
      assert_raises(function() store:set_hyper { wd = 1 } end, 'no optimizer')
      assert_raises(function() store:save_optimizer_states('/tmp/x') end, 'no optimizer')
      assert_raises(function() store:is_capable('flight') end, 'flight', 'optimizer')
    end)

    it('refuses wrong values before an updater is called for any of them', function()
      local calls = 0
      store:set_updater(function(_, pushed, stored)
        calls = calls + 1
        stored:set(pushed)
      end)
      local a = nd.ones({ 2, 3 })
      assert_raises(function() store:push({ 'w', 'v' }, { a, a }) end, "key 'v'", '(2,3)', '(4,)')
      assert_raises(function() store:push('x', a) end, "key 'x'")
      assert_raises(function() store:pushpull('w', a, nd.ones({ 3 })) end, "pushpull: key 'w'",
        '(3', '(2,3)')
      assert.equal(0, calls)
    end)

    it('passes a late error on to who reads, once, and takes the next push', function()
      local bad = nd.sparse.row_sparse(nd.ones({ 1, 3 }), { 5 }, { 2, 3 }) -- no such row
      local out = nd.zeros({ 2, 3 })
      store:push('w', bad)
      store:pull('w', out)
      assert.has_error(function() out:totable() end)
      pcall(neap.waitall)
      pcall(store.barrier, store)
      store:push('w', nd.full({ 2, 3 }, 5))
      assert_unchanged()
    end)
  end)
end
