-- SPDX-License-Identifier: MIT
-- Reductions, softmax, products, reordering, joining and taking rows.

local neap = require 'neap'
local nd = neap.nd
local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')
local raises, near = support.raises, support.near

describe('reductions', function()
  local a = nd.array { { 1, 5, 3 }, { 4, 2, 6 } }

  it('over all of an array give an array without dimensions', function()
    assert.equal(21, a:sum():item())
    assert.same({}, a:sum().shape)
    assert.equal(3.5, nd.mean(a):item())
    assert.equal(6, a:max():item())
    assert.equal(1, a:min():item())
    assert.equal(5, a:argmax():item())
    near(math.sqrt(1 + 25 + 9 + 16 + 4 + 36), a:norm())
  end)

  it('along an axis drop it, or keep it with length 1', function()
    assert.same({ 5, 7, 9 }, a:sum(0):totable())
    assert.same({ 9, 12 }, a:sum(1):totable())
    assert.same({ 9, 12 }, a:sum(-1):totable())
    assert.same({ { 5, 7, 9 } }, a:sum(0, true):totable())
    assert.same({ { 21 } }, nd.sum(a, nil, true):totable())
    assert.same({ 3, 4 }, a:mean(1):totable())
    assert.same({ 4, 5, 6 }, a:max(0):totable())
    assert.same({ 1, 2 }, a:min(1):totable())
    assert.same({ 1, 2 }, a:argmax(1):totable())
    assert.equal('int64', a:argmax(1).dtype)
    near({ math.sqrt(17), math.sqrt(29), math.sqrt(45) }, a:norm(0))
  end)

  it('of a middle axis', function()
    local b = nd.arange(24):reshape { 2, 3, 4 }
    -- b[i][j][k] = 12i + 4j + k: the sum over j is 36i + 12 + 3k
    assert.same({ { 12, 15, 18, 21 }, { 48, 51, 54, 57 } }, b:sum(1):totable())
  end)

  it('argmax is the first of the largest', function()
    assert.equal(1, nd.array({ 1, 7, 7 }):argmax():item())
  end)

  it('sums of integers are int64 and do not wrap', function()
    local sum = nd.full(1000, 100, { dtype = 'int8' }):sum()
    assert.equal('int64', sum.dtype)
    assert.equal(100000, sum:item())
  end)

  it('a sum of many small numbers keeps its digits', function()
    -- In float32 alone, adding 0.1 ten million times is wrong in the third digit.
    near(1e6, nd.full(1e7, 0.1):sum(), 1e-6)
  end)

  it('max and min give NaN if there is one, as in NumPy', function()
    near(0 / 0, nd.array({ 1, 0 / 0, 2 }):max())
    near(0 / 0, nd.array({ 1, 0 / 0, 2 }):min())
  end)

  it('refuse axes that are not there', function()
    raises(function() local _ = a:sum(2) end, '2')
    raises(function() local _ = a:sum(-3) end, '-3')
    raises(function() local _ = a:sum('0') end, 'sum', '"0"')
    raises(function() local _ = a:max(0.5) end, 'max', '0.5')
    raises(function() local _ = nd.sum(1) end, 'sum')
  end)
end)

describe('softmax', function()
  it('is exp(x) divided by its sum, and does not overflow', function()
    local e = math.exp(1)
    near({ { 1 / (1 + e), e / (1 + e) }, { 0.5, 0.5 } },
      nd.softmax(nd.array { { 0, 1 }, { 1e4, 1e4 } }))
    near({ { 1 / (1 + e), 0.5 }, { e / (1 + e), 0.5 } },
      nd.array({ { 0, 1 }, { 1, 1 } }):softmax(0))
  end)

  it('log_softmax is its logarithm', function()
    local x = nd.array { { 0.5, -2, 3 } }
    near(nd.log(nd.softmax(x)):totable(), nd.log_softmax(x), 1e-5)
    near({ { 0, -1000 } }, nd.array({ { 1000, 0 } }):log_softmax())
  end)
end)

describe('dot', function()
  local a = nd.array { { 1, 2, 3 }, { 4, 5, 6 } }
  local b = nd.array { { 7, 8 }, { 9, 10 }, { 11, 12 } }

  it('multiplies matrices', function()
    assert.same({ { 58, 64 }, { 139, 154 } }, nd.dot(a, b):totable())
    assert.same({ { 58, 64 }, { 139, 154 } }, a:dot(b):totable())
    assert.equal('float64', a:astype('float64'):dot(b:astype('float64')).dtype)
  end)

  it('transposes first where asked', function()
    -- a'a and aa', by hand
    assert.same({ { 17, 22, 27 }, { 22, 29, 36 }, { 27, 36, 45 } },
      nd.dot(a, a, { ta = true }):totable())
    assert.same({ { 14, 32 }, { 32, 77 } }, nd.dot(a, a, { tb = true }):totable())
    assert.same(nd.transpose(nd.dot(a, b)):totable(),
      nd.dot(b, a, { ta = true, tb = true }):totable())
  end)

  it('multiplies vectors', function()
    local x, y = nd.array { 1, 2, 3 }, nd.array { 1, -1 }
    assert.equal(14, nd.dot(x, x):item())
    assert.same({ 14, 32 }, a:dot(x):totable())
    assert.same({ -3, -3, -3 }, y:dot(a):totable())
  end)

  it('refuses what does not fit', function()
    raises(function() local _ = a:dot(a) end, '(2,3)')
    raises(function() local _ = a:dot(2) end, 'dot', '2')
    raises(function() local _ = a:dot(b, { transpose = true }) end, 'transpose', 'ta, tb')
    raises(function() local _ = a:dot(b, true) end, 'true')
    raises(function() local _ = a:astype('int32'):dot(b:astype('int32')) end, 'int32')
  end)
end)

describe('transpose', function()
  it('reverses axes, or puts them in the order given', function()
    local a = nd.arange(6):reshape { 2, 3 }
    assert.same({ { 0, 3 }, { 1, 4 }, { 2, 5 } }, a:transpose():totable())
    local b = nd.arange(24):reshape { 2, 3, 4 }
    assert.same({ 4, 3, 2 }, b:transpose().shape)
    local c = nd.transpose(b, { 1, 2, 0 })
    assert.same({ 3, 4, 2 }, c.shape)
    assert.equal(b:at(1):at(2):at(3):item(), c:at(2):at(3):at(1):item())
    raises(function() b:transpose { 0, 1 } end, 'transpose', '3', '2')
    raises(function() b:transpose { 0, 1, 1 } end)
    raises(function() b:transpose { 0, 1, 5 } end)
    raises(function() b:transpose(1) end, 'transpose', '1')
  end)
end)

describe('concat and stack', function()
  local a, b = nd.array { { 1, 2 } }, nd.array { { 3, 4 } }

  it('join along an axis that is there, or a new one', function()
    assert.same({ { 1, 2 }, { 3, 4 } }, nd.concat({ a, b }):totable())
    assert.same({ { 1, 2, 3, 4 } }, nd.concat({ a, b }, 1):totable())
    assert.same({ { 1, 2, 3, 4 } }, nd.concat({ a, b }, -1):totable())
    assert.same({ { { 1, 2 } }, { { 3, 4 } } }, nd.stack({ a, b }):totable())
    assert.same({ { { 1, 2 }, { 3, 4 } } }, nd.stack({ a, b }, 1):totable())
    assert.same({ { { 1, 3 }, { 2, 4 } } }, nd.stack({ a, b }, -1):totable())
  end)

  it('refuse what does not fit', function()
    raises(function() nd.concat({}) end, 'concat', 'at least one')
    raises(function() nd.concat(a) end, 'concat', 'table')
    raises(function() nd.concat { a, 1 } end, 'concat', '1')
    raises(function() nd.concat { a, nd.ones({ 1, 3 }) } end, '(1,3)')
    raises(function() nd.stack { a, nd.ones({ 2, 2 }) } end, '(2,2)')
    raises(function() nd.concat({ a, b }, 2) end, '2')
  end)
end)

describe('take', function()
  local a = nd.array { { 1, 2 }, { 3, 4 }, { 5, 6 } }

  it('gives rows by their position from 0, in any shape', function()
    assert.same({ { 5, 6 }, { 1, 2 }, { 5, 6 } }, nd.take(a, { 2, 0, 2 }):totable())
    local ids = nd.array({ { 0 }, { 1 } }, { dtype = 'int32' })
    assert.same({ { { 1, 2 } }, { { 3, 4 } } }, a:take(ids):totable())
    assert.same({ 0, 2 }, a:take({}).shape)
    assert.same({ 5, 6 }, a:take(2):totable())
  end)

  it('raises a late error for an index out of range, once, naming the operation', function()
    local bad = a:take({ 0, 3 })
    local worse = bad + 1
    raises(function() worse:totable() end, 'take', '3')
    bad:wait_to_read() -- told once
    neap.waitall()
  end)

  it('refuses indices that are none', function()
    raises(function() a:take(nd.ones(2)) end, 'float32')
    raises(function() a:take({ 0.5 }) end, '0.5')
    raises(function() a:take('0') end, 'take', '"0"')
  end)
end)
