-- SPDX-License-Identifier: MIT
-- neap.nd: constructors, their options, fields of arrays, and what they refuse.

local ffi = require 'ffi'
local neap = require 'neap'
local nd = neap.nd
local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')
local raises = support.raises

describe('nd constructors', function()
  it('zeros, ones and full hold their number everywhere', function()
    assert.same({ { 0, 0 }, { 0, 0 }, { 0, 0 } }, nd.zeros({ 3, 2 }):totable())
    assert.same({ 1, 1, 1 }, nd.ones(3):totable())
    assert.same({ { 2.5 } }, nd.full({ 1, 1 }, 2.5):totable())
  end)

  it('empty has the shape asked for', function()
    assert.same({ 2, 3, 4 }, nd.empty({ 2, 3, 4 }).shape)
  end)

  it('a shape of no dimensions holds one element', function()
    local a = nd.full({}, 7)
    assert.same({}, a.shape)
    assert.equal(0, a.ndim)
    assert.equal(1, a.size)
    assert.equal(7, a:totable())
    assert.equal(7, a:item())
  end)

  it('a dimension may be 0, and up to 8 are allowed', function()
    assert.equal(0, nd.zeros({ 2, 0, 3 }).size)
    assert.same({ {}, {} }, nd.zeros({ 2, 0 }):totable())
    local a = nd.ones({ 1, 2, 1, 2, 1, 2, 1, 2 })
    assert.equal(8, a.ndim)
    assert.equal(16, a.size)
  end)

  it('arange counts from start, stops before stop', function()
    assert.same({ 0, 1, 2, 3 }, nd.arange(4):totable())
    assert.same({ 1, 3, 5 }, nd.arange(1, 7, 2):totable())
    assert.same({ 1, 3, 5, 7 }, nd.arange(1, 7.5, 2):totable())
    assert.same({ 3, 2, 1 }, nd.arange(3, 0, -1):totable())
    assert.same({}, nd.arange(3, 3):totable())
    assert.same({}, nd.arange(3, 5, -1):totable())
    assert.same({ 0, 0.25, 0.5, 0.75 }, nd.arange(0, 1, 0.25, { dtype = 'float64' }):totable())
    assert.equal('int64', nd.arange(0, 3, 1, { dtype = 'int64' }).dtype)
  end)

  it('array takes nested tables of 1 to 8 levels, and numbers', function()
    assert.same({ 1, 2, 3 }, nd.array({ 1, 2, 3 }):totable())
    local a = nd.array { { 1, 2, 3 }, { 4, 5, 6 } }
    assert.same({ 2, 3 }, a.shape)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, a:totable())
    local eight = { { { { { { { { 1, 2 } } } } } } } }
    assert.same(eight, nd.array(eight):totable())
    assert.equal(5, nd.array(5):item())
    assert.same({ 0 }, nd.array({}).shape)
    assert.same({ 2, 0 }, nd.array({ {}, {} }).shape)
  end)

  it('array takes C arrays and pointers, and copies', function()
    local data = ffi.new('float[6]', 1, 2, 3, 4, 5, 6)
    local a = nd.array(data, { shape = { 2, 3 } })
    data[0] = 100
    assert.equal('float32', a.dtype)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, a:totable())
    local doubles = ffi.new('double[2]', 1.5, 2.5) -- a pointer keeps nothing alive
    local pointer = ffi.cast('const double *', doubles)
    local bytes = ffi.new('uint8_t[3]', 1, 2, 255)
    assert.same({ 1, 2, 255 }, nd.array(bytes, { shape = 3 }):totable())
    assert.equal('uint8', nd.array(bytes, { shape = 3 }).dtype)
    assert.equal('float64', nd.array(pointer, { shape = 2 }).dtype)
    assert.same({ 0, 1 }, nd.array(ffi.new('int64_t[2]', 0, 1), { shape = 2 }):totable())
    -- 0x3f80 are the upper 16 bits of 1.0f; 0x3c00 is 1 in IEEE half precision.
    local halves = ffi.new('uint16_t[1]', 0x3f80)
    assert.same({ 1 }, nd.array(halves, { shape = 1, dtype = 'bfloat16' }):totable())
    halves[0] = 0x3c00
    assert.same({ 1 }, nd.array(halves, { shape = 1, dtype = 'float16' }):totable())
    local anything = ffi.cast('void *', data)
    assert.same({ 100, 2 }, nd.array(anything, { shape = 2, dtype = 'float32' }):totable())
  end)

  it('array of an array is a copy, converted where asked', function()
    local a = nd.array { 1.5, 2.5 }
    local b = nd.array(a)
    a:set(0)
    assert.same({ 1.5, 2.5 }, b:totable())
    local c = nd.array(b, { dtype = 'float64', ctx = neap.cpu(3) })
    assert.equal('float64', c.dtype)
    assert.equal(neap.cpu(3), c.ctx)
    assert.same({ 1.5, 2.5 }, c:totable())
  end)

  it('make every dtype, on every device', function()
    for _, dtype in ipairs {
      'float32', 'float64', 'float16', 'bfloat16', 'int8', 'uint8', 'int32', 'int64',
    } do
      local opts = { dtype = dtype, ctx = neap.cpu(2) }
      for _, a in ipairs {
        nd.zeros(2, opts), nd.ones(2, opts), nd.full(2, 3, opts), nd.empty(2, opts),
        nd.array({ 1, 2 }, opts), nd.arange(0, 2, 1, opts),
      } do
        assert.equal(dtype, a.dtype)
        assert.equal(neap.cpu(2), a.ctx)
        assert.equal('default', a.stype)
        assert.same({ 2 }, a.shape)
      end
      assert.same({ 3, 3 }, nd.full(2, 3, opts):totable())
      assert.same({ 1, 2 }, nd.array({ 1, 2 }, opts):totable())
      assert.same({ 0, 1 }, nd.arange(0, 2, 1, opts):totable())
    end
  end)

  it('the ends of integer ranges are held', function()
    for dtype, ends in pairs {
      int8 = { -128, 127 }, uint8 = { 0, 255 }, int32 = { -2 ^ 31, 2 ^ 31 - 1 },
      int64 = { -2 ^ 53, 2 ^ 53 },
    } do
      assert.same(ends, nd.array(ends, { dtype = dtype }):totable())
    end
  end)

  it('int64 beyond 2^53 goes in and out as int64_t', function()
    local large = 9007199254740993LL -- 2^53 + 1
    local a = nd.array({ large, 1 }, { dtype = 'int64' })
    local back = a:totable()
    assert.is_true(ffi.istype('int64_t', back[1]))
    assert.is_true(back[1] == large)
    assert.equal(1, back[2])
  end)
end)

describe('nd fields', function()
  it('tell what an array is', function()
    local a = nd.zeros({ 4, 5 }, { dtype = 'int32' })
    assert.same({ 4, 5 }, a.shape)
    assert.equal(4, a.shape[1])
    assert.equal(2, a.ndim)
    assert.equal(20, a.size)
    assert.equal('int32', a.dtype)
    assert.equal('default', a.stype)
    assert.equal('cpu(0)', tostring(a.ctx))
    assert.equal(4, #a)
  end)

  it('a changed shape table changes no array', function()
    local a = nd.zeros({ 4, 5 })
    a.shape[1] = 9
    assert.same({ 4, 5 }, a.shape)
  end)

  it('== is identity', function()
    local a, b = nd.ones(2), nd.ones(2)
    assert.is_true(a == a)
    assert.is_false(a == b)
    assert.is_true(a ~= b)
    assert.is_false(a == 1)
    assert.is_false(a == nil)
    assert.is_true(({ [a] = true })[a])
  end)

  it('is_array knows arrays', function()
    assert.is_true(nd.is_array(nd.ones(1)))
    for _, x in pairs { 1, 'a', {}, true, ffi.new('float[1]') } do
      assert.is_false(nd.is_array(x))
    end
    assert.is_false(nd.is_array(nil))
  end)

  it('unknown ones raise, so do assignments and []', function()
    local a = nd.ones(2)
    raises(function() local _ = a.shpae end, 'shpae')
    raises(function() local _ = a:sumup() end, 'sumup')
    raises(function() local _ = a[1] end, 'a:at(i)')
    raises(function() a[1] = 2 end, 'a:at(i):set(v)')
    raises(function() a.shape = { 1 } end, 'shape')
    raises(function() local _ = a < a end, 'nd.less')
    raises(function() local _ = a <= a end, 'nd.less')
    raises(function() local _ = a .. 'x' end, 'nd.concat')
    raises(function() local _ = #nd.full({}, 1) end, 'without dimensions')
  end)
end)

describe('nd constructors refuse', function()
  it('unknown options, naming the valid ones', function()
    raises(function() nd.zeros(2, { dytpe = 'float64' }) end, 'dytpe', 'dtype, ctx', 'zeros')
    raises(function() nd.array({ 1 }, { type = 'x' }) end, 'type', 'dtype, ctx, shape')
    raises(function() nd.zeros(2, 'float64') end, 'zeros', 'table')
    raises(function() nd.random.uniform(0, 1, 2, { seed = 1 }) end, 'seed')
  end)

  it('unknown dtypes, naming the valid ones', function()
    raises(function() nd.zeros(2, { dtype = 'float' }) end, '"float"', 'float32 float64')
    raises(function() nd.zeros(2, { dtype = 3 }) end, '3', 'int64')
  end)

  it('contexts that are none', function()
    raises(function() nd.zeros(2, { ctx = 'cpu' }) end, 'neap.cpu(0)', '"cpu"')
    raises(function() nd.zeros(2, { ctx = neap.gpu(0) }) end)
  end)

  it('shapes that are none', function()
    raises(function() nd.zeros() end, 'zeros', 'nil')
    raises(function() nd.zeros('3') end, '"3"')
    raises(function() nd.zeros({ 2, -1 }) end, '-1')
    raises(function() nd.zeros({ 2, 1.5 }) end, '1.5')
    raises(function() nd.zeros({ 2, 'x' }) end, '"x"')
    raises(function() nd.zeros(0 / 0) end, 'dimension')
    raises(function() nd.zeros({ 1, 1, 1, 1, 1, 1, 1, 1, 1 }) end, '9 dimensions', '8')
    raises(function() nd.zeros({ 2 ^ 40, 2 ^ 40 }) end)
  end)

  it('ragged tables, telling where', function()
    raises(function() nd.array { { 1, 2 }, { 3 } } end, 't[2]', '1', '2')
    raises(function() nd.array { { 1, 2 }, 3 } end, 't[2]', '3')
    raises(function() nd.array { 1, { 2 } } end, 't[2]')
    raises(function() nd.array { { { 1 } }, { { 1, 2 } } } end, 't[2][1]')
    raises(function() nd.array { { { { { { { { { 1 } } } } } } } } } end, 'deeper than 8')
  end)

  it('elements that are no numbers', function()
    raises(function() nd.array { 1, 'two' } end, 't[2]', '"two"')
    raises(function() nd.array { 1, true } end, 't[2]', 'true')
    raises(function() nd.array { { 1, {} }, { 1, 2 } } end, 't[1][2]')
    raises(function() nd.array { nd.ones(2) } end, 't[1]', 'nd.stack')
    raises(function() nd.array('x') end, 'array', '"x"')
    raises(function() nd.array() end, 'nil')
    raises(function() nd.full(2, '1') end, '"1"')
  end)

  it('numbers that an integer dtype cannot hold', function()
    raises(function() nd.array({ 1, 1.5 }, { dtype = 'int32' }) end, 't[2]', '1.5', 'int32')
    raises(function() nd.array({ 256 }, { dtype = 'uint8' }) end, '256', 'uint8')
    raises(function() nd.array({ -129 }, { dtype = 'int8' }) end, '-129')
    raises(function() nd.array({ 0 / 0 }, { dtype = 'int64' }) end, 'int64')
    raises(function() nd.array({ 2 ^ 63 }, { dtype = 'int64' }) end, 'int64')
    raises(function() nd.full(2, 0.5, { dtype = 'int8' }) end, '0.5', 'int8')
    raises(function() nd.full(2, 1 / 0, { dtype = 'int8' }) end, 'inf')
    raises(function() nd.arange(0, 1, 0.5, { dtype = 'int32' }) end, '0.5')
    raises(function() nd.arange(0, 300, 1, { dtype = 'uint8' }) end, '299')
  end)

  it('pointers without shape or of the wrong kind', function()
    local data = ffi.new('float[2]')
    raises(function() nd.array(data) end, 'shape')
    raises(function() nd.array(data, { shape = 3 }) end, '12 bytes', '8')
    raises(function() nd.array(data, { shape = 2, dtype = 'float64' }) end, 'float64', 'astype')
    raises(function() nd.array(ffi.new('uint16_t[2]'), { shape = 2 }) end, 'dtype')
    raises(function() nd.array(ffi.cast('float *', nil), { shape = 2 }) end, 'NULL')
    raises(function() nd.array(ffi.new('struct { int x; }'), { shape = 2 }) end, 'struct')
    raises(function() nd.array({ 1 }, { shape = 1 }) end, 'shape')
    raises(function() nd.array(nd.ones(1), { shape = 1 }) end, 'reshape')
  end)

  it('steps and bounds of arange', function()
    raises(function() nd.arange(0, 1, 0) end, 'step')
    raises(function() nd.arange('0', 1) end, '"0"')
    raises(function() nd.arange(0, 1 / 0) end, 'stop')
  end)
end)

describe('array:close', function()
  it('may be repeated; any other use raises', function()
    local a, b = nd.ones(2), nd.ones(2)
    a:close()
    a:close()
    for _, use in ipairs {
      function() local _ = a.shape end, function() local _ = a.ctx end,
      function() local _ = #a end, function() a:totable() end, function() local _ = a + 1 end,
      function() local _ = b + a end, function() b:add_(a) end, function() local _ = -a end,
      function() nd.exp(a) end, function() a:sum() end, function() a:set(1) end,
      function() a:copy() end, function() a:data() end, function() a:reshape(2) end,
      function() nd.concat { b, a } end, function() nd.dot(a, b) end,
      function() b:axpy_(1, a) end, function() b:copyto(a) end, function() b:set(a) end,
      function() a:wait_to_read() end, function() nd.where(b, a, b) end,
      function() nd.clip(a, 0, 1) end, function() a:transpose() end, function() nd.softmax(a) end,
      function() b:take(a) end, function() a:retain({ 0 }) end,
    } do
      raises(use, 'closed')
    end
    assert.same({ 1, 1 }, b:totable())
    assert.equal('<neap.Array closed>', tostring(a))
  end)

  it('leaves queued work and views alone', function()
    local a = nd.ones({ 100, 100 })
    local b = a + 1
    local row = a:at(3)
    a:close()
    assert.equal(20000, b:sum():item())
    assert.equal(100, row:sum():item())
  end)
end)
