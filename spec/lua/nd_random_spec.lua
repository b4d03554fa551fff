-- SPDX-License-Identifier: MIT
-- Random arrays: distribution, and that a seed says all.

local neap = require 'neap'
local nd = neap.nd
local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')
local raises = support.raises

local N = 200000 -- of standard error 1/sqrt(N) = 0.0022

describe('nd.random', function()
  setup(function() neap.seed(7) end)

  it('uniform is in [low, high), with that mean and variance', function()
    local u = nd.random.uniform(-1, 3, N)
    assert.is_true(u:min():item() >= -1 and u:max():item() < 3)
    assert.near(1, u:mean():item(), 0.02)
    assert.near(16 / 12, (u - 1):square():mean():item(), 0.02) -- (high - low)^2 / 12
  end)

  it('normal has its mean, deviation and tails', function()
    local z = nd.random.normal(2, 3, N, { dtype = 'float64' })
    assert.near(2, z:mean():item(), 0.05)
    assert.near(9, (z - 2):square():mean():item(), 0.2)
    -- 0.27 % lie beyond three deviations
    assert.near(0.0027, nd.greater(nd.abs(z - 2), 9):mean():item(), 0.0006)
  end)

  it('draws differ from each other', function()
    local a, b = nd.random.uniform(0, 1, 100), nd.random.uniform(0, 1, 100)
    assert.is_true(nd.equal(a, b):sum():item() < 3)
  end)

  it('one seed gives one sequence, of any shape', function()
    neap.seed(3)
    local a, b = nd.random.uniform(0, 1, { 4, 5 }):totable(), nd.random.normal(0, 1, 7):totable()
    neap.seed(3)
    assert.same(a, nd.random.uniform(0, 1, { 4, 5 }):totable())
    assert.same(b, nd.random.normal(0, 1, 7):totable())
    neap.seed(4)
    assert.not_same(a, nd.random.uniform(0, 1, { 4, 5 }):totable())
  end)

  it('and the same bits on naive engines and 1 or 4 threads', function()
    local source = [[
      local neap = require 'neap'
      neap.seed(11)
      local a = neap.nd.random.normal(0, 1, 300000)
      local b = neap.nd.random.uniform(0, 1, 300000, { dtype = 'float64' })
      local h = 0
      local p, q = a:data(), b:data()
      for i = 0, 299999 do h = (h * 31 + p[i] * 4096 + q[i] * 65536) % 2 ^ 40 end
      print(('%.17g'):format(h), a:sum():item(), b:sum():item())
    ]]
    local one = support.run(source, 'NEAP_NUM_THREADS=1')
    assert.truthy(one:match('^%d'), one)
    assert.equal(one, support.run(source, 'NEAP_NUM_THREADS=4'))
    assert.equal(one, support.run(source, 'NEAP_ENGINE=naive'))
  end)

  it('makes every float dtype, and no integers', function()
    for _, dtype in ipairs { 'float32', 'float64', 'float16', 'bfloat16' } do
      local a = nd.random.uniform(0, 1, 1000, { dtype = dtype, ctx = neap.cpu(1) })
      assert.equal(dtype, a.dtype)
      assert.equal(neap.cpu(1), a.ctx)
      assert.near(0.5, a:astype('float32'):mean():item(), 0.05)
    end
    raises(function() nd.random.normal(0, 1, 2, { dtype = 'int32' }) end, 'int32')
  end)

  it('refuses bad arguments', function()
    raises(function() nd.random.uniform('0', 1, 2) end, 'random.uniform', 'low', '"0"')
    raises(function() nd.random.normal(0, nil, 2) end, 'random.normal', 'deviation', 'nil')
    raises(function() nd.random.uniform(0, 1) end, 'random.uniform', 'shape')
    raises(function() neap.seed('x') end, 'seed', '"x"')
    raises(function() neap.seed(1.5) end, 'seed', '1.5')
    raises(function() neap.seed(-1) end, 'seed', '-1')
  end)
end)
