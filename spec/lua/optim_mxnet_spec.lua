-- SPDX-License-Identifier: MIT
-- Optimizers and schedules against what MXNet 1.9.1 computes, where it follows the formulas that
-- Neap does. golden/mxnet_optim.py has made the numbers, and says what is left out and why.

local neap = require 'neap'
local nd, optim, lr = neap.nd, neap.optim, neap.lr_scheduler

local here = debug.getinfo(1, 'S').source:match('^@(.*/)')
local golden = dofile(os.getenv 'NEAP_GOLDEN' or here .. 'golden/mxnet_optim.lua')
local ROWS, COLUMNS = golden.shape[1], golden.shape[2]

local function near(expected, got, what)
  for i = 1, #expected do
    local error = math.abs(got[i] - expected[i]) / math.max(math.abs(expected[i]), 0.1)
    assert.is_true(error <= 1e-5, ('%s, element %d: %.9g is not %.9g'):format(what, i, got[i],
      expected[i]))
  end
end

-- As in the script: exact in float32.
local function gradient(t)
  local g = {}
  for r = 1, ROWS do
    g[r] = {}
    for c = 1, COLUMNS do
      g[r][c] = ((t * 7919 + r * 104729 + c * 1299709) % 257 - 128) / 128
    end
  end
  return g
end

local function push(store, t, how)
  local g, rows, ids = gradient(t), {}, {}
  if how == 'dense' then
    store:push('w', nd.array(g))
    return
  end
  for r = 1, ROWS do
    if (t * 3 + r) % 4 < 2 then rows[#rows + 1], ids[#ids + 1] = g[r], r - 1 end
  end
  store:push('w', nd.sparse.row_sparse(nd.array(rows), ids, golden.shape))
end

local function first_weight()
  return nd.arange(1, ROWS * COLUMNS + 1):div_(16):add_(0.5):reshape(golden.shape)
end

for _, case in ipairs(golden.weights) do
  local name, with, how, settings = unpack(case)
  local own = {}
  for key, value in pairs(settings) do own[#own + 1] = ('%s %s'):format(key, value) end
  table.sort(own)
  it(('%s is MXNet\'s: %s, %s, %s'):format(name, with, how, table.concat(own, ', ')), function()
    if with == 'multipliers' then
      settings.lr_mult = { w = golden.multipliers.lr_mult }
      settings.wd_mult = { w = golden.multipliers.wd_mult }
      settings.lr_scheduler = lr.poly(golden.schedule)
    end
    local store, out, t = neap.kv.create(), nd.zeros(golden.shape), 0
    store:init('w', first_weight())
    store:set_optimizer(optim.create(name, settings))
    for i, step in ipairs(golden.kept) do
      while t < step do
        t = t + 1
        push(store, t, how)
      end
      store:pull('w', out)
      near(case[4 + i], out:reshape({ -1 }):totable(), 'step ' .. t)
    end
  end)
end

for _, case in ipairs(golden.schedules) do
  it('lr_scheduler.' .. case[1] .. ' gives the rates of MXNet\'s', function()
    local schedule, rates = lr.create(case[1], case[2]), {}
    for t = 1, #case[3] do rates[t] = schedule(t) end
    near(case[3], rates, 'rates')
  end)
end
