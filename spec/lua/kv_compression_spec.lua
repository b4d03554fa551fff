-- SPDX-License-Identifier: MIT
-- Gradient compression in stores of one process. The bytes are checked in C.

local neap = require 'neap'
local nd, kv = neap.nd, neap.kv

local function same_on(n, value, shape)
  local list = {}
  for i = 1, n do list[i] = nd.full(shape or { 3 }, value, { ctx = neap.cpu(i - 1) }) end
  return list
end

for _, kind in ipairs { 'device', 'local_allreduce_device' } do
  describe(('gradient compression in a store of type %s'):format(kind), function()
    local store

    before_each(function() store = kv.create(kind) end)
    after_each(function() store:close() end)

    local function pulled(key)
      local out = nd.zeros({ 3 })
      store:pull(key, out)
      local values = out:totable()
      for i = 2, 3 do assert.equal(values[1], values[i]) end
      return values[1]
    end

    it('sends by 2bit when enough has come together', function()
      for _, n in ipairs { 1, 2, 4 } do
        store:init(n, nd.zeros({ 3 }))
        store:set_gradient_compression { type = '2bit', threshold = 0.5 }
        store:set_updater(function(_, pushed, stored) stored:add_(pushed * 2) end)
        local seen = {}
        for _, value in ipairs { 0, 0.4, 0.1, 0.2, 0.3, 0.5 } do
          store:push(n, same_on(n, value))
          seen[#seen + 1] = pulled(n)
        end
        assert.same({ 0, 0, n, n, 2 * n, 3 * n }, seen)
      end
    end)

    it('sends by 1bit whether it is above', function()
      store:init('w', nd.zeros({ 3 }))
      store:set_gradient_compression { type = '1bit' }
      local seen = {}
      for _, value in ipairs { 0.5, 0, 3, 0 } do -- residuals 0.5, -0.5, 2.5, 1.5 before sending
        store:push('w', same_on(2, value))
        seen[#seen + 1] = pulled('w')
      end
      assert.same({ 2, -2, 2, 2 }, seen)
    end)

    it('uses 0.5 when no threshold is given', function()
      store:init('w', nd.zeros({ 3 }))
      store:set_gradient_compression { type = '2bit' }
      store:push('w', nd.full({ 3 }, 0.75))
      assert.equal(0.5, pulled('w'))
      local out = nd.zeros({ 3 })
      store:pushpull('w', nd.full({ 3 }, 0.25), out)
      assert.same({ 0.5, 0.5, 0.5 }, out:totable())
    end)

    it('loses nothing in large arrays, and keeps residuals of devices and keys apart', function()
      local shape = { 300, 701 }
      store:init({ 'a', 'b' }, { nd.zeros(shape), nd.zeros(shape) })
      store:set_gradient_compression { type = '2bit', threshold = 2 }
      store:set_updater(function(_, pushed, stored) stored:add_(pushed) end)
      local total = nd.zeros(shape)
      for step = 1, 6 do
        neap.seed(step)
        local list = {}
        for i = 1, 3 do
          list[i] = nd.random.uniform(-1, 1, shape)
          total:add_(list[i])
        end
        store:push({ 'a', 'b' }, { list, list[1] })
      end
      local a, b = nd.zeros(shape), nd.zeros(shape)
      store:pull({ 'a', 'b' }, { a, b })
      -- Each of three residuals is below the threshold.
      local rest = nd.max(nd.abs(total - a)):item()
      assert.is_true(rest < 6 and rest > 2)
      assert.is_true(nd.max(nd.abs(a)):item() >= 2)
      assert.is_true(nd.max(nd.abs(b)):item() <= 4)
    end)

    it('does not touch init, pulls, rows and other dtypes', function()
      store:set_gradient_compression { type = '2bit' }
      store:init('w', nd.full({ 3 }, 0.3))
      assert.is_true(math.abs(pulled('w') - 0.3) < 1e-6)
      local rows = nd.sparse.row_sparse(nd.full({ 1, 2 }, 0.25), { 1 }, { 3, 2 })
      store:init('rows', nd.zeros({ 3, 2 }))
      store:push('rows', rows)
      local out = nd.zeros({ 3, 2 })
      store:pull('rows', out)
      assert.same({ { 0, 0 }, { 0.25, 0.25 }, { 0, 0 } }, out:totable())
      store:init('double', nd.zeros({ 3 }, { dtype = 'float64' }))
      store:push('double', nd.full({ 3 }, 0.25, { dtype = 'float64' }))
      local double = nd.zeros({ 3 }, { dtype = 'float64' })
      store:pull('double', double)
      assert.same({ 0.25, 0.25, 0.25 }, double:totable())
    end)

    it('keeps the residual when the type is changed', function()
      store:init('w', nd.zeros({ 3 }))
      store:set_gradient_compression { type = '2bit', threshold = 1 }
      store:push('w', nd.full({ 3 }, 0.75))
      assert.equal(0, pulled('w'))
      store:set_gradient_compression { type = '1bit', threshold = 0.5 }
      store:push('w', nd.zeros({ 3 })) -- 0.75 is above 0.5
      assert.equal(1, pulled('w'))
      store:set_gradient_compression { type = '2bit', threshold = 0.25 }
      store:push('w', nd.zeros({ 3 })) -- -0.25
      assert.equal(-0.25, pulled('w'))
    end)

    it('leaves pushed arrays as they were', function()
      local value = nd.full({ 3 }, 0.75)
      store:init('w', nd.zeros({ 3 }))
      store:set_gradient_compression { type = '2bit' }
      store:push('w', { value, value })
      assert.equal(1, pulled('w'))
      assert.same({ 0.75, 0.75, 0.75 }, value:totable())
    end)

    it('refuses what makes no sense', function()
      for _, threshold in ipairs { 0, -1, 0 / 0, 1 / 0, '1' } do
        assert.error_matches(function()
          store:set_gradient_compression { type = '2bit', threshold = threshold }
        end, 'threshold')
      end
      assert.error_matches(function() store:set_gradient_compression { type = '4bit' } end,
        "'4bit'.*2bit.*1bit")
      assert.has_error(function() store:set_gradient_compression {} end)
      assert.has_error(function() store:set_gradient_compression '2bit' end)
      assert.has_error(function() store:set_gradient_compression { type = '2bit', x = 1 } end)
    end)
  end)
end

for _, kind in ipairs { 'local', 'local_allreduce_cpu', 'local_update_cpu' } do
  it(('there is no gradient compression in a store of type %s'):format(kind), function()
    local store = kv.create(kind)
    assert.error_matches(function() store:set_gradient_compression { type = '2bit' } end,
      "compression.*'" .. kind .. "'.*device")
    store:close()
  end)
end
