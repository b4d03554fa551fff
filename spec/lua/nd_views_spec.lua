-- SPDX-License-Identifier: MIT
-- Values out of arrays and into them; copies, conversions, views.

local ffi = require 'ffi'
local neap = require 'neap'
local nd = neap.nd
local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')
local raises, near = support.raises, support.near

describe('values', function()
  it('totable nests one level a dimension, in every dtype', function()
    for _, dtype in ipairs {
      'float32', 'float64', 'float16', 'bfloat16', 'int8', 'uint8', 'int32', 'int64',
    } do
      local a = nd.array({ { { 1, 2 }, { 3, 4 } }, { { 5, 6 }, { 7, 8 } } }, { dtype = dtype })
      local t = a:totable()
      assert.same({ { { 1, 2 }, { 3, 4 } }, { { 5, 6 }, { 7, 8 } } }, t)
      assert.equal('number', type(t[1][1][1]))
    end
  end)

  it('item is the one element', function()
    assert.equal(3, nd.array({ { 3 } }):item())
    assert.equal(3, nd.array({ 3 }, { dtype = 'int64' }):item())
    assert.equal(0.5, nd.array({ 0.5 }, { dtype = 'float16' }):item())
    raises(function() nd.ones(2):item() end, 'item', 'one element', '(2,)')
    raises(function() nd.ones(0):item() end, 'item')
  end)

  it('data is a typed pointer to the elements in memory', function()
    for dtype, ctype in pairs {
      float32 = 'float *', float64 = 'double *', float16 = 'uint16_t *', bfloat16 = 'uint16_t *',
      int8 = 'int8_t *', uint8 = 'uint8_t *', int32 = 'int32_t *', int64 = 'int64_t *',
    } do
      assert.is_true(ffi.istype(ctype, nd.ones(2, { dtype = dtype }):data()))
    end
    local a = nd.zeros({ 2, 2 })
    a:add_(1)
    local p = a:data()
    assert.equal(1, p[3])
    p[3] = 9
    assert.same({ { 1, 1 }, { 1, 9 } }, a:totable())
    local row = a:at(1)
    assert.equal(9, row:data()[1])
    assert.equal(0x3f80, nd.ones(1, { dtype = 'bfloat16' }):data()[0])
    raises(function() a:tostype('row_sparse'):data() end)
  end)

  it('wait_to_read gives the array back', function()
    local a = nd.ones(2)
    assert.is_true(rawequal(a, a:wait_to_read()))
  end)
end)

describe('set', function()
  it('takes numbers, tables, and arrays of any dtype and device', function()
    local a = nd.zeros({ 2, 2 })
    assert.is_true(rawequal(a, a:set(3)))
    assert.same({ { 3, 3 }, { 3, 3 } }, a:totable())
    assert.same({ { 1, 2 }, { 3, 4 } }, a:set({ { 1, 2 }, { 3, 4 } }):totable())
    assert.same({ { 5, 6 }, { 7, 8 } },
      a:set(nd.array({ { 5, 6 }, { 7, 8 } }, { dtype = 'int32', ctx = neap.cpu(1) })):totable())
    assert.same({ 1, 2 }, nd.zeros(2, { dtype = 'bfloat16' }):set({ 1, 2 }):totable())
    assert.equal(4, nd.zeros({}):set(4):item())
  end)

  it('broadcasts', function()
    local a = nd.full({ 2, 2 }, 0 / 0)
    assert.same({ { 1, 2 }, { 1, 2 } }, a:set(nd.array { 1, 2 }):totable())
    assert.same({ { 1, 1 }, { 2, 2 } }, a:set(nd.array { { 1 }, { 2 } }):totable())
    assert.same({ { 8, 8 }, { 8, 8 } },
      a:set(nd.array({ 8 }, { dtype = 'int8', ctx = neap.cpu(1) })):totable())
    raises(function() nd.zeros(2):set(a) end, '(2,)', '(2,2)')
  end)

  it('changes parts through views', function()
    local a = nd.zeros({ 3, 2 })
    a:at(0):set(1)
    a:slice(1, 3):set({ { 2, 3 }, { 4, 5 } })
    assert.same({ { 1, 1 }, { 2, 3 }, { 4, 5 } }, a:totable())
    a:at(-1):at(0):set(9)
    assert.equal(9, a:at(2):at(0):item())
  end)

  it('changes nothing when it raises', function()
    local a = nd.array({ 1, 2 }, { dtype = 'int32' })
    raises(function() a:set({ 3, 4.5 }) end, 't[2]', '4.5', 'int32')
    raises(function() a:set({ 3, 4, 5 }) end, '(3,)', '(2,)')
    raises(function() a:set({ { 3 }, { 4 } }) end, '(2,1)', '(2,)')
    raises(function() a:set({ 3, 'x' }) end, 'set', '"x"')
    raises(function() a:set('x') end, 'set', '"x"')
    raises(function() a:set() end, 'nil')
    raises(function() a:set(1e10) end, 'int32')
    assert.same({ 1, 2 }, a:totable())
  end)
end)

describe('copies', function()
  it('copy is independent', function()
    local a = nd.array { 1, 2 }
    local b = a:copy()
    a:add_(1)
    assert.same({ 1, 2 }, b:totable())
    assert.same({ 2, 3 }, a:totable())
    assert.same({ 7 }, nd.array({ 6, 7 }):slice(1, 2):copy():totable())
  end)

  it('copyto an array gives that array; to a device, a new one there', function()
    local a, b = nd.array { 1, 2 }, nd.zeros(2, { ctx = neap.cpu(1) })
    assert.is_true(rawequal(b, a:copyto(b)))
    assert.same({ 1, 2 }, b:totable())
    local c = a:copyto(neap.cpu(0))
    assert.is_false(c == a)
    assert.same({ 1, 2 }, c:totable())
    assert.equal(neap.cpu(5), a:copyto(neap.cpu(5)).ctx)
    raises(function() a:copyto(nd.zeros(3)) end, '(2,)', '(3,)')
    raises(function() a:copyto(nd.zeros(2, { dtype = 'int32' })) end, 'float32', 'int32')
    raises(function() a:copyto('cpu') end, 'copyto', '"cpu"')
  end)

  it('as_in_context is the array itself where it is there already', function()
    local a = nd.ones(2)
    assert.is_true(rawequal(a, a:as_in_context(neap.cpu(0))))
    local b = a:as_in_context(neap.cpu(1))
    assert.equal(neap.cpu(1), b.ctx)
    assert.same({ 1, 1 }, b:totable())
    raises(function() a:as_in_context(1) end, 'as_in_context', 'neap.cpu(0)')
  end)

  it('astype converts as a C cast, saturating', function()
    local a = nd.array { 1.9, -1.9, 300, -1e20 }
    assert.same({ 1, -1, 300, -2 ^ 31 }, a:astype('int32'):totable())
    assert.same({ 1, -1, 127, -128 }, a:astype('int8'):totable())
    assert.same({ 1, 0, 255, 0 }, a:astype('uint8'):totable())
    near({ 1.9, -1.9, 300, -1e20 }, a:astype('float64'))
    assert.equal('float32', nd.ones(1, { dtype = 'int8' }):astype('float32').dtype)
    -- 1 + 2^-11 is halfway between 1 and 1 + 2^-10, the neighbour in float16
    assert.equal(1, nd.array({ 1 + 2 ^ -11 }):astype('float16'):item())
    raises(function() a:astype('int16') end, '"int16"', 'int32')
    raises(function() a:astype() end, 'astype', 'float32')
  end)

  it('astype of the same dtype is a copy too', function()
    local a = nd.ones(1)
    local b = a:astype('float32')
    a:set(5)
    assert.equal(1, b:item())
  end)
end)

describe('views', function()
  local a
  before_each(function() a = nd.arange(6):reshape { 2, 3 } end)

  it('reshape shares memory; -1 is what remains', function()
    local b = a:reshape({ 3, -1 })
    assert.same({ { 0, 1 }, { 2, 3 }, { 4, 5 } }, b:totable())
    assert.same({ 0, 1, 2, 3, 4, 5 }, a:reshape(-1):totable())
    assert.same({ 6, 1 }, a:reshape(6, 1).shape)
    assert.equal(1, nd.ones(1):reshape({}):totable())
    b:at(0):set(7)
    assert.same({ { 7, 7, 2 }, { 3, 4, 5 } }, a:totable())
    raises(function() a:reshape { 4, 2 } end, '(2,3)', '(4,2)')
    raises(function() a:reshape { -1, -1 } end)
    raises(function() a:reshape { -1, 4 } end)
    raises(function() a:reshape('x') end, 'reshape', '"x"')
    raises(function() a:reshape({ -2, 3 }) end, '-2')
  end)

  it('slice takes rows [begin, end), at one row', function()
    assert.same({ { 3, 4, 5 } }, a:slice(1, 2):totable())
    assert.same({ { 3, 4, 5 } }, a:slice(1):totable())
    assert.same({ { 3, 4, 5 } }, a:slice(-1):totable())
    assert.same({ { 0, 1, 2 } }, a:slice(0, -1):totable())
    assert.same({ 0, 3 }, a:slice(1, 1).shape)
    assert.same({ 3, 4, 5 }, a:at(1):totable())
    assert.same({ 3, 4, 5 }, a:at(-1):totable())
    assert.equal(5, a:at(1):at(2):item())
    raises(function() a:slice(0, 3) end, '3', '2')
    raises(function() a:slice(2, 1) end)
    raises(function() a:slice(0.5) end, 'slice', '0.5')
    raises(function() a:at(2) end, '2')
    raises(function() a:at(-3) end, '-3')
    raises(function() a:at('0') end, 'at', '"0"')
    raises(function() a:at(0):at(0):at(0) end)
  end)

  it('are ordered with the array they are of', function()
    local row = a:at(0)
    a:mul_(10)
    row:add_(1)
    a:add_(100)
    assert.same({ { 101, 111, 121 }, { 130, 140, 150 } }, a:totable())
    assert.same({ 101, 111, 121 }, row:totable())
  end)

  it('keep the memory when the array is gone', function()
    local row = nd.full({ 2, 3 }, 4):at(1)
    collectgarbage()
    collectgarbage()
    assert.same({ 4, 4, 4 }, row:totable())
  end)
end)
