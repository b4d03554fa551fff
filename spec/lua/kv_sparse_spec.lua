-- SPDX-License-Identifier: MIT
-- Row-sparse values: pushed, stored, pulled by rows.

local neap = require 'neap'
local nd, kv = neap.nd, neap.kv

local TYPES = { 'local', 'local_allreduce_cpu', 'local_update_cpu', 'device',
  'local_allreduce_device' }

local function rows_of(ids, value, shape)
  return nd.sparse.row_sparse(nd.full({ #ids, shape[2] }, value), ids, shape)
end

-- Rows present, and what is in them: one number each, as all columns are alike.
local function contents(a)
  local ids, values, result = a.indices:totable(), a.values:totable(), {}
  for i, id in ipairs(ids) do
    for k = 2, #values[i] do assert.equal(values[i][1], values[i][k]) end
    result[i] = { id, values[i][1] }
  end
  return result
end

for _, kind in ipairs(TYPES) do
  describe(('row-sparse values in a store of type %s'):format(kind), function()
    local store
    local shape = { 4, 3 }

    before_each(function()
      store = kv.create(kind)
      store:init({ 'dense', 'rows' }, { nd.ones(shape), nd.ones(shape):tostype('row_sparse') })
    end)
    after_each(function() store:close() end)

    local function pulled(key, ids)
      local out = nd.sparse.zeros('row_sparse', shape)
      store:row_sparse_pull(key, out, ids)
      return contents(out)
    end

    for _, key in ipairs { 'dense', 'rows' } do
      it(('gives the rows asked for, of a %s value'):format(key), function()
        assert.same({ { 0, 1 }, { 2, 1 } }, pulled(key, { 0, 2 }))
        assert.same({ { 2, 1 } }, pulled(key, { 2, 2 }))
        assert.same({ { 0, 1 }, { 1, 1 } }, pulled(key, { 1, 0 }))
      end)

      it(('takes ids of any shape and dtype for a %s value'):format(key), function()
        for _, dtype in ipairs { 'int64', 'int32', 'uint8', 'float32' } do
          assert.same({ { 0, 1 }, { 2, 1 }, { 3, 1 } },
            pulled(key, nd.array({ { 3, 0 }, { 2, 3 } }, { dtype = dtype })))
        end
        assert.same({ { 0, 1 }, { 3, 1 } }, pulled(key, { { 3, 0 }, { 3, 3 } }))
      end)

      it(('gives no rows of a %s value for no ids'):format(key), function()
        assert.same({}, pulled(key, {}))
        assert.same({}, pulled(key, nd.zeros({ 0 }, { dtype = 'int64' })))
      end)

      it(('drops rows that an out had before, of a %s value'):format(key), function()
        local out = rows_of({ 0, 1, 2, 3 }, 9, shape)
        store:row_sparse_pull(key, out, { 1 })
        assert.same({ { 1, 1 } }, contents(out))
      end)

      it(('reports an id out of range where the rows of a %s value are read'):format(key),
        function()
          local out = nd.sparse.zeros('row_sparse', shape)
          store:row_sparse_pull(key, out, { 0, 4 })
          assert.has_error(function() return out.indices end)
          assert.same({ { 0, 1 } }, pulled(key, { 0 })) -- the store is none the worse
          store:row_sparse_pull(key, out, { -1 })
          assert.has_error(function() return out.indices end)
        end)
    end

    it('gives each out its own rows, or all the same', function()
      local a, b = nd.sparse.zeros('row_sparse', shape), nd.sparse.zeros('row_sparse', shape)
      store:row_sparse_pull('rows', { a, b }, { { 0 }, { 3, 1 } })
      assert.same({ { 0, 1 } }, contents(a))
      assert.same({ { 1, 1 }, { 3, 1 } }, contents(b))
      store:row_sparse_pull('rows', { a, b }, { nd.array({ 2 }, { dtype = 'int64' }),
        nd.array({ 1 }, { dtype = 'int32' }) })
      assert.same({ { 2, 1 } }, contents(a))
      assert.same({ { 1, 1 } }, contents(b))
      store:row_sparse_pull('rows', { a, b }, { 3 })
      assert.same({ { 3, 1 } }, contents(a))
      assert.same({ { 3, 1 } }, contents(b))
      store:row_sparse_pull({ 'dense', 'rows' }, { a, { b } }, { { 0, 1 }, { 2 } })
      assert.same({ { 0, 1 }, { 1, 1 } }, contents(a))
      assert.same({ { 2, 1 } }, contents(b))
      assert.has_error(function() store:row_sparse_pull('rows', { a, b }, { { 0 } }) end)
      assert.has_error(function() store:row_sparse_pull('rows', a) end)
      assert.has_error(function() store:row_sparse_pull('rows', a, 'x') end)
      local keys = { 'dense', 'rows' }
      assert.has_error(function() store:row_sparse_pull(keys, { a, b }, { { 0 } }) end)
    end)

    it('refuses a dense out, and leaves it', function()
      for _, key in ipairs { 'dense', 'rows' } do
        local out = nd.full(shape, 7)
        assert.error_matches(function() store:row_sparse_pull(key, out, { 0 }) end,
          'row_sparse_pull.*' .. key .. '.*%(4,3%)')
        assert.equal(7 * 12, nd.sum(out):item())
      end
    end)

    it('leaves a row-sparse out alone on pull, unless told otherwise', function()
      local out = rows_of({ 1 }, 9, shape)
      store:pull('rows', out)
      store:pull('dense', out)
      assert.same({ { 1, 9 } }, contents(out))
      local dense = nd.zeros(shape)
      store:pull('rows', { out, dense })
      assert.same({ { 1, 9 } }, contents(out))
      assert.equal(12, nd.sum(dense):item())
      store:pull('rows', out, { ignore_sparse = false })
      assert.same({ { 0, 1 }, { 1, 1 }, { 2, 1 }, { 3, 1 } }, contents(out))
    end)

    it('adds up rows, each present in some of the arrays', function()
      store:push('rows', { rows_of({ 0, 2 }, 1, shape), rows_of({ 2 }, 10, shape),
        rows_of({}, 0, shape), rows_of({ 3, 2 }, 100, shape) })
      assert.same({ { 0, 1 }, { 2, 111 }, { 3, 100 } }, pulled('rows', { 0, 1, 2, 3 }))
      local dense = nd.full(shape, 5)
      store:pull('rows', dense) -- absent rows are zeros
      assert.same({ { 1, 1, 1 }, { 0, 0, 0 }, { 111, 111, 111 }, { 100, 100, 100 } },
        dense:totable())
    end)

    it('makes the sum of row-sparse arrays the value of a dense key', function()
      store:push('dense', { rows_of({ 1 }, 2, shape), rows_of({ 1, 3 }, 3, shape) })
      local out = nd.zeros(shape)
      store:pull('dense', out)
      assert.same({ { 0, 0, 0 }, { 5, 5, 5 }, { 0, 0, 0 }, { 3, 3, 3 } }, out:totable())
    end)

    it('does not see what is done to a pushed array afterwards', function()
      for i = 1, 100 do
        local a = rows_of({ 1, 3 }, i, shape)
        store:push('rows', a)
        rows_of({ 0 }, -1, shape):copyto(a)
        assert.same({ { 1, i }, { 3, i } }, pulled('rows', { 0, 1, 2, 3 }))
        assert.same({ { 0, -1 } }, contents(a))
      end
    end)

    it('hands updaters the sum of rows', function()
      local seen
      store:set_updater(function(_, pushed, stored)
        seen = contents(pushed)
        stored:set(pushed:tostype('default') + stored)
      end)
      store:push('dense', { rows_of({ 1 }, 2, shape), rows_of({ 1, 3 }, 3, shape) })
      assert.same({ { 1, 5 }, { 3, 3 } }, seen)
      local out = nd.zeros(shape)
      store:pull('dense', out)
      assert.same({ { 1, 1, 1 }, { 6, 6, 6 }, { 1, 1, 1 }, { 4, 4, 4 } }, out:totable())
    end)

    it('agrees with dense sums on random rows', function()
      neap.seed(3)
      local big = { 50, 8 }
      store:init('big', nd.sparse.zeros('row_sparse', big))
      local state = 1
      local function random(n)
        state = (state * 16807) % 2147483647
        return state % n
      end
      for _ = 1, 30 do
        local list, expected = {}, nd.zeros(big)
        for k = 1, 1 + random(4) do
          local ids, taken = {}, {}
          for _ = 1, random(30) do
            local id = random(50)
            if not taken[id] then
              taken[id] = true
              ids[#ids + 1] = id
            end
          end
          list[k] = nd.sparse.row_sparse(nd.random.uniform(-1, 1, { #ids, 8 }), ids, big)
          expected = expected + list[k]:tostype('default')
        end
        store:push('big', list)
        local out = nd.zeros(big)
        store:pull('big', out)
        assert.same(expected:totable(), out:totable())
      end
    end)
  end)
end
