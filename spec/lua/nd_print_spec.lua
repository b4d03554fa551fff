-- SPDX-License-Identifier: MIT
-- tostring(array), against what NumPy prints for the same numbers.

local neap = require 'neap'
local nd = neap.nd

local function shows(expected, array)
  local text = tostring(array)
  assert.equal(expected, text:match('^(.*)\n<neap%.Array [^\n]*>$'))
end

describe('tostring', function()
  it('ends with shape, dtype and context', function()
    assert.equal('[[1 2]\n [3 4]]\n<neap.Array 2x2 float32 @cpu(0)>',
      tostring(nd.array { { 1, 2 }, { 3, 4 } }))
    assert.equal('5\n<neap.Array scalar int32 @cpu(3)>',
      tostring(nd.full({}, 5, { dtype = 'int32', ctx = neap.cpu(3) })))
    assert.equal('[]\n<neap.Array 2x0 float32 @cpu(0)>', tostring(nd.zeros({ 2, 0 })))
  end)

  it('aligns columns', function()
    shows('[[  1  20]\n [300   4]]', nd.array { { 1, 20 }, { 300, 4 } })
    shows('[[-1  2]\n [ 3 -4]]', nd.array({ { -1, 2 }, { 3, -4 } }, { dtype = 'int8' }))
    shows('[ 1.5  10     0.25]', nd.array { 1.5, 10, 0.25 })
  end)

  it('shows the fewest digits that give the number back', function()
    shows('[0.1 0.2 0.3]', nd.array { 0.1, 0.2, 0.3 })
    shows('[0.1 0.2 0.3]', nd.array({ 0.1, 0.2, 0.3 }, { dtype = 'float64' }))
    shows('[0.33333334]', nd.array { 1 / 3 })
    shows('[0.33333333]', nd.array({ 1 / 3 }, { dtype = 'float64' }))
    shows('[16777216]', nd.array { 16777216 })
    shows('0.5', nd.full({}, 0.5))
  end)

  it('uses exponents where sizes differ widely', function()
    shows('[1.0e+10 1.5e-05]', nd.array { 1e10, 1.5e-5 })
    shows('[1e-08]', nd.array { 1e-8 })
  end)

  it('shows nan, inf and int64 to the last digit', function()
    shows('[ nan  inf -inf  1.5]', nd.array { 0 / 0, 1 / 0, -1 / 0, 1.5 })
    shows('[9223372036854775807                  -1]',
      nd.array({ 9223372036854775807LL, -1 }, { dtype = 'int64' }))
  end)

  it('shows 16-bit floats', function()
    shows('[2   1.5]', nd.array({ 2, 1.5 }, { dtype = 'bfloat16' }))
  end)

  it('puts blocks of matrices under each other', function()
    shows('[[[0 1]\n  [2 3]]\n\n [[4 5]\n  [6 7]]]', nd.arange(8):reshape { 2, 2, 2 })
  end)

  it('wraps long rows', function()
    local text = tostring(nd.arange(100))
    for line in text:gmatch('[^\n]+') do assert.is_true(#line <= 80) end
    assert.truthy(text:find('^%[ 0  1  2'))
    assert.truthy(text:find('\n 2[0-9] '))
  end)

  it('shortens more than 1000 elements to three at each end', function()
    shows('[   0    1    2 ... 1998 1999 2000]', nd.arange(2001))
    local text = tostring(nd.ones({ 100, 50 }))
    assert.truthy(text:find('[[1 1 1 ... 1 1 1]\n', 1, true))
    assert.truthy(text:find('\n ...\n', 1, true))
    assert.equal(7, select(2, text:gsub('%[', ''))) -- six rows, and one around them
    assert.truthy(text:find('<neap.Array 100x50 float32 @cpu(0)>', 1, true))
    assert.truthy(tostring(nd.arange(1000)):find(' 500 ', 1, true))
  end)

  it('shows the rows of a row-sparse array, and which they are', function()
    local s = nd.sparse.row_sparse({ { 1, 2 }, { 3, 4 } }, { 5, 2 }, { 9, 2 })
    assert.equal('[[3 4]\n [1 2]]\nrows [2 5]\n<neap.Array 9x2 float32 @cpu(0) row_sparse>',
      tostring(s))
  end)
end)
