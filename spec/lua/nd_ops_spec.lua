-- SPDX-License-Identifier: MIT
-- Arithmetic element by element, against numbers worked out by hand and Lua's own math.

local neap = require 'neap'
local nd = neap.nd
local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')
local raises, near = support.raises, support.near

local INF, NAN = math.huge, 0 / 0

describe('operators', function()
  local a, b = nd.array { 1, 2, 3 }, nd.array { 4, 5, -6 }

  it('work between arrays', function()
    assert.same({ 5, 7, -3 }, (a + b):totable())
    assert.same({ -3, -3, 9 }, (a - b):totable())
    assert.same({ 4, 10, -18 }, (a * b):totable())
    assert.same({ 4, 2.5, -2 }, (b / a):totable())
    assert.same({ 1, 4, 27 }, (a ^ a):totable())
    assert.same({ -1, -2, -3 }, (-a):totable())
  end)

  it('work with numbers on either side', function()
    assert.same({ 2, 3, 4 }, (a + 1):totable())
    assert.same({ 2, 3, 4 }, (1 + a):totable())
    assert.same({ 0, 1, 2 }, (a - 1):totable())
    assert.same({ 9, 8, 7 }, (10 - a):totable())
    assert.same({ 2, 4, 6 }, (a * 2):totable())
    assert.same({ 2, 4, 6 }, (2 * a):totable())
    assert.same({ 0.5, 1, 1.5 }, (a / 2):totable())
    assert.same({ 6, 3, 2 }, (6 / a):totable())
    assert.same({ 1, 4, 9 }, (a ^ 2):totable())
    assert.same({ 2, 4, 8 }, (2 ^ a):totable())
    assert.same({ 2, 3, 4 }, (a + 1LL):totable())
  end)

  it('leave their operands as they are', function()
    assert.same({ 1, 2, 3 }, a:totable())
    assert.same({ 4, 5, -6 }, b:totable())
  end)

  it('follow IEEE 754 where numbers end', function()
    local z = nd.array { 1, -1, 0 } / 0
    near({ INF, -INF, NAN }, z)
    near({ INF }, nd.array { INF } + 1)
  end)

  it('broadcast as NumPy does', function()
    local column, row = nd.array { { 1 }, { 2 } }, nd.array { 10, 20, 30 }
    assert.same({ { 11, 21, 31 }, { 12, 22, 32 } }, (column + row):totable())
    assert.same({ 2, 3 }, (column * row).shape)
    assert.same({ 4, 2, 3 }, (nd.ones({ 4, 1, 1 }) + column * row).shape)
    assert.same({ 11, 21, 31 }, (nd.full({}, 1) + row):totable())
    assert.same({ 2, 0 }, (nd.ones({ 2, 1 }) + nd.ones({ 1, 0 })).shape)
    -- a[i][j] + b[j], for shapes that the fast paths have no case for
    local big, small = nd.arange(24):reshape { 2, 3, 4 }, nd.arange(4):reshape { 1, 1, 4 }
    local sum = (big + small):totable()
    for i = 0, 1 do
      for j = 0, 2 do
        for k = 0, 3 do assert.equal(i * 12 + j * 4 + k + k, sum[i + 1][j + 1][k + 1]) end
      end
    end
  end)

  it('refuse shapes that do not fit, naming both', function()
    raises(function() local _ = nd.ones({ 2, 3 }) + nd.ones({ 2, 4 }) end, '(2,3)', '(2,4)')
    raises(function() local _ = nd.ones(2) * nd.ones(3) end, '(2,)', '(3,)')
  end)

  it('refuse to mix dtypes, naming both and astype', function()
    raises(function() local _ = nd.ones(2) + nd.ones(2, { dtype = 'float64' }) end, 'float32',
      'float64', 'astype')
  end)

  it('refuse to mix devices', function()
    local there = nd.ones(2, { ctx = neap.cpu(1) })
    raises(function() local _ = nd.ones(2) + there end, 'cpu(0)', 'cpu(1)')
  end)

  it('refuse what is neither array nor number', function()
    raises(function() local _ = a + 'x' end, '+', '"x"')
    raises(function() local _ = {} - a end, '-', 'table')
    raises(function() local _ = a * nil end, '*', 'nil')
    raises(function() local _ = a / true end, '/', 'true')
  end)
end)

describe('integer arrays', function()
  local a = nd.array({ 1, 2, 100 }, { dtype = 'int8' })

  it('stay integers, and wrap', function()
    local sum = a + a
    assert.equal('int8', sum.dtype)
    assert.same({ 2, 4, -56 }, sum:totable()) -- 200 - 256
    assert.same({ -1, -2, -100 }, (-a):totable())
  end)

  it('refuse numbers that they cannot hold', function()
    raises(function() local _ = a + 0.5 end, '+', 'int8', '0.5', 'astype')
    raises(function() local _ = 1.5 * a end, '*', '1.5')
    raises(function() local _ = a + 200 end, '200')
    raises(function() a:add_(0.25) end, 'add_', '0.25')
    raises(function() a:set(1.5) end, 'set', '1.5')
    raises(function() local _ = nd.maximum(a, 0.5) end, 'maximum', '0.5')
    raises(function() local _ = nd.clip(a, 0.5, 2) end, 'clip', '0.5')
    raises(function() local _ = nd.where(a, 0.5, 1) end, 'where', '0.5')
    raises(function() local _ = a + NAN end, 'nan')
    assert.same({ 1, 2, 100 }, a:totable())
  end)

  it('refuse what makes fractions, with the way out', function()
    raises(function() local _ = a / a end, "astype('float32')")
    raises(function() local _ = nd.exp(a) end, "astype('float32')")
    raises(function() local _ = a ^ 2 end, "astype('float32')")
    assert.same({ 0.5, 1, 50 }, (a:astype('float32') / 2):totable())
  end)
end)

describe('in place', function()
  it('add_ sub_ mul_ div_ change the array and give it back', function()
    local a = nd.array { 1, 2, 3 }
    assert.is_true(rawequal(a, a:add_(nd.array { 1, 1, 1 })))
    assert.same({ 2, 3, 4 }, a:totable())
    assert.same({ 1, 2, 3 }, a:sub_(1):totable())
    assert.same({ 2, 4, 6 }, a:mul_(2):totable())
    assert.same({ 1, 2, 3 }, a:div_(nd.array { 2, 2, 2 }):totable())
    assert.same({ 2, 4, 6 }, a:add_(a):totable())
  end)

  it('broadcast the other operand, never themselves', function()
    local a = nd.ones({ 2, 3 })
    a:mul_(nd.array { 1, 2, 3 })
    assert.same({ { 1, 2, 3 }, { 1, 2, 3 } }, a:totable())
    a:add_(nd.array { { 1 }, { 2 } })
    assert.same({ { 2, 3, 4 }, { 3, 4, 5 } }, a:totable())
    raises(function() nd.ones(3):add_(a) end, '(3,)', '(2,3)')
    raises(function() nd.ones({ 1, 3 }):add_(a) end)
  end)

  it('axpy_ adds alpha times b', function()
    local y = nd.array { 1, 2, 3 }
    assert.same({ 21, 42, 63 }, y:axpy_(2, nd.array { 10, 20, 30 }):totable())
    assert.same({ 22, 43, 64 }, y:axpy_(0.5, 2):totable())
    local m = nd.zeros({ 2, 3 })
    assert.same({ { -1, -2, -3 }, { -1, -2, -3 } }, m:axpy_(-1, nd.array { 1, 2, 3 }):totable())
    raises(function() y:axpy_('1', y) end, 'alpha', '"1"')
    raises(function() y:axpy_(1, 'y') end, 'axpy_', '"y"')
    raises(function() y:axpy_(1, nd.ones({ 2, 3 })) end)
    raises(function() y:axpy_(1, nd.ones(3, { dtype = 'float64' })) end, 'float64')
    local n = nd.ones(3, { dtype = 'int32' })
    raises(function() n:axpy_(0.5, n) end, 'axpy_', '0.5')
  end)

  it('act on views', function()
    local a = nd.zeros({ 3, 2 })
    a:at(1):add_(5)
    a:slice(2, 3):sub_(1)
    assert.same({ { 0, 0 }, { 5, 5 }, { -1, -1 } }, a:totable())
  end)
end)

describe('functions', function()
  local values = { -2.5, -1, -0.0, 0.5, 1, 3 }
  local a = nd.array(values, { dtype = 'float64' })

  local function each(f)
    local expected = {}
    for i, x in ipairs(values) do expected[i] = f(x) end
    return expected
  end

  for name, f in pairs {
    exp = math.exp,
    square = function(x) return x * x end,
    abs = math.abs,
    sign = function(x) return x > 0 and 1 or x < 0 and -1 or 0 end,
    tanh = math.tanh,
    sigmoid = function(x) return 1 / (1 + math.exp(-x)) end,
    relu = function(x) return math.max(x, 0) end,
  } do
    it(name .. ' is that of every element, as function and as method', function()
      near(each(f), nd[name](a), 1e-12)
      near(each(f), a[name](a), 1e-12)
      near(each(f), nd[name](a:astype('float32')), 1e-6)
    end)
  end

  it('log and sqrt', function()
    local b = nd.array({ 0.25, 1, 4, 1e10 }, { dtype = 'float64' })
    near({ math.log(0.25), 0, math.log(4), math.log(1e10) }, nd.log(b), 1e-12)
    near({ 0.5, 1, 2, 1e5 }, b:sqrt(), 1e-12)
    near({ -INF, NAN }, nd.log(nd.array { 0, -1 }))
    near({ NAN }, nd.sqrt(nd.array { -1 }))
  end)

  it('maximum and minimum, with numbers and NaN as in NumPy', function()
    local x, y = nd.array { 1, 5, NAN }, nd.array { 3, 2, 1 }
    near({ 3, 5, NAN }, nd.maximum(x, y))
    near({ 1, 2, NAN }, nd.minimum(x, y))
    near({ 3, 3, NAN }, nd.maximum(3, x:minimum(2)))
    raises(function() nd.maximum(1, 2) end, 'maximum', 'array')
    raises(function() nd.maximum(x) end, 'nil')
  end)

  it('equal, greater, less give 1 or 0 in the dtype given', function()
    local x, y = nd.array { 1, 2, 3 }, nd.array { 3, 2, 1 }
    assert.same({ 0, 1, 0 }, nd.equal(x, y):totable())
    assert.same({ 0, 0, 1 }, nd.greater(x, y):totable())
    assert.same({ 1, 0, 0 }, nd.less(x, y):totable())
    assert.same({ 0, 1, 1 }, x:greater(1):totable())
    assert.equal('int32', nd.equal(nd.ones(1, { dtype = 'int32' }), 1).dtype)
  end)

  it('where chooses, with numbers and broadcasting', function()
    local c = nd.array { { 1, 0 }, { 0, 2 } }
    assert.same({ { 1, -1 }, { -1, 1 } }, nd.where(c, 1, -1):totable())
    assert.same({ { 5, 0 }, { 0, 6 } }, nd.where(c, nd.array { 5, 6 }, 0):totable())
    raises(function() nd.where(1, c, c) end, 'where')
    raises(function() nd.where(c, c) end, 'where', 'nil')
  end)

  it('clip bounds, and takes infinite bounds for integers too', function()
    near({ -1, 0, 1, NAN }, nd.clip(nd.array { -5, 0, 5, NAN }, -1, 1))
    local x = nd.array({ -5, 0, 5 }, { dtype = 'int32' })
    assert.same({ 0, 0, 5 }, x:clip(0, INF):totable())
    assert.same({ -5, 0, 1 }, x:clip(-INF, 1):totable())
    raises(function() nd.clip(x) end, 'clip', 'nil')
  end)

  it('refuse what is no array', function()
    raises(function() nd.exp(1) end, 'exp', '1')
    raises(function() nd.exp('x') end, 'exp', '"x"')
    raises(function() nd.exp() end, 'exp', 'nil')
  end)
end)

describe('16-bit floats', function()
  it('are computed in float32 and rounded once, to nearest even', function()
    -- float16 has 11 bits: 2048 + 1 is halfway between 2048 and 2050, the even one is 2048;
    -- 2050 + 1 rounds up to 2052.
    local h = nd.array({ 2048, 2050 }, { dtype = 'float16' }) + 1
    assert.same({ 2048, 2052 }, h:totable())
    -- bfloat16 has 8 bits: 256 + 1 stays, 258 + 1 becomes 260.
    local b = nd.array({ 256, 258 }, { dtype = 'bfloat16' }) + 1
    assert.same({ 256, 260 }, b:totable())
    assert.equal('bfloat16', b.dtype)
    -- Lua's numbers are rounded once too: a little above the middle goes up, though float32
    -- would lose the little.
    local middle = 1 + 2 ^ -11 + 2 ^ -40
    assert.equal(1 + 2 ^ -10, nd.array({ middle }, { dtype = 'float16' }):item())
    assert.equal(1 + 2 ^ -10, nd.full(1, middle, { dtype = 'float16' }):item())
    assert.equal(1.5, nd.array({ 1.5 }, { dtype = 'bfloat16' }):item())
  end)
end)
