-- SPDX-License-Identifier: MIT
-- Collection pressure: loops with temporaries stay bounded, and cost little.

local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')

-- Prints the most memory the process ever had, in MB, and the seconds since the start.
local REPORT = [[
local function report()
  for line in io.lines('/proc/self/status') do
    local kb = line:match('^VmHWM:%s*(%d+)')
    if kb then print(('%d MB'):format(kb / 1024)) end
  end
end
local neap = require 'neap'
local nd = neap.nd
]]

local function most_memory(source, environment)
  local output, ok = support.run(REPORT .. source .. '\nreport()\n', environment)
  assert.is_true(ok, output)
  return tonumber(output:match('(%d+) MB'))
end

describe('memory', function()
  it('of 100,000 temporaries of 1 MB stays below 200 MB', function()
    local mb = most_memory [[
      for _ = 1, 50000 do local t = nd.zeros({ 512, 512 }) + 1 end -- two each
      neap.waitall()
    ]]
    assert.is_true(mb < 200, mb .. ' MB')
  end)

  it('stays bounded on the naive engine, and without workers', function()
    for _, environment in ipairs { 'NEAP_ENGINE=naive', 'NEAP_NUM_THREADS=0' } do
      local mb = most_memory('for _ = 1, 1000 do local t = nd.zeros({ 512, 512 }) + 1 end',
        environment)
      assert.is_true(mb < 200, mb .. ' MB')
    end
  end)

  it('stays bounded when arrays are closed faster than work is done', function()
    local mb = most_memory [[
      for _ = 1, 5000 do
        local t = nd.zeros({ 512, 512 })
        t:add_(1)
        t:close()
      end
    ]]
    assert.is_true(mb < 200, mb .. ' MB')
  end)

  it('of small arrays is bounded too', function()
    local mb = most_memory 'for _ = 1, 300000 do local t = nd.ones(4) end'
    assert.is_true(mb < 200, mb .. ' MB')
  end)

  it('of single arrays larger than all slack is bounded', function()
    local mb = most_memory 'for _ = 1, 20 do local t = nd.zeros({ 4096, 4096 }) end' -- 64 MB
    assert.is_true(mb < 400, mb .. ' MB')
  end)

  it('of views, and of values read, is bounded', function()
    local mb = most_memory [[
      local a = nd.zeros({ 512, 512 })
      for i = 0, 100000 do local row = a:at(i % 512):add_(1) end
      for _ = 1, 3000 do local t = nd.zeros({ 512, 512 }):reshape(-1):slice(0, 10) end
      assert(a:max():item() == math.ceil(100001 / 512))
    ]]
    assert.is_true(mb < 200, mb .. ' MB')
  end)

  it('of row-sparse arrays, whose size is seen late, is bounded', function()
    local mb = most_memory [[
      local s = nd.ones({ 512, 512 }):tostype('row_sparse')
      for _ = 1, 2000 do
        local t = nd.sparse.zeros('row_sparse', { 512, 512 })
        s:copyto(t)
        local u = s:copy()
      end
    ]]
    assert.is_true(mb < 400, mb .. ' MB')
  end)

  it('leaves the collector alone where the program stopped it', function()
    local output = support.run(REPORT .. [[
      collectgarbage()
      collectgarbage('stop')
      local marker = setmetatable({}, { __mode = 'v' })
      marker[1] = {}
      for _ = 1, 100 do local t = nd.zeros({ 512, 512 }) end
      print(marker[1] ~= nil)
    ]])
    assert.equal('true\n', output)
  end)

  it('is given back by close(), without the collector', function()
    -- By the thread that completes the last operation on it: wait_to_read() may return while a
    -- worker is still on its way out of that operation.
    local output = support.run(REPORT .. [[
      collectgarbage('stop')
      local before = neap.counters().bytes
      local a = nd.zeros({ 1024, 1024 }):wait_to_read()
      local during = neap.counters().bytes
      a:close()
      local deadline = os.time() + 10
      while neap.counters().bytes ~= before and os.time() < deadline do end
      print(during - before >= 4 * 2 ^ 20, neap.counters().bytes == before)
    ]])
    assert.equal('true\ttrue\n', output)
  end)

  it('does not make a program with a large heap collect all the time', function()
    -- The same temporaries, with and without a million tables alive. A whole cycle over
    -- these takes longer than a hundred temporaries: it must run seldom.
    local source = REPORT .. [[
      local heap = {}
      if BIG then for i = 1, 1000000 do heap[i] = { i } end end
      collectgarbage()
      local cycles = 0
      local function again() cycles = cycles + 1 getmetatable(newproxy(true)).__gc = again end
      again()
      for _ = 1, 2000 do local t = nd.zeros({ 512, 512 }) end
      neap.waitall()
      print(cycles - 1)
    ]]
    local cycles = tonumber((support.run((source:gsub('BIG', 'true')))))
    assert.is_true(cycles <= 2000 / 100, cycles .. ' cycles')
  end)
end)
