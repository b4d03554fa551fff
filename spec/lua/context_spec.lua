-- SPDX-License-Identifier: MIT
-- The module itself: devices, environment, waiting, late errors, ending.

local neap = require 'neap'
local nd = neap.nd
local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')
local raises = support.raises

describe('devices', function()
  it('are one object each, with fields and a text', function()
    assert.is_true(rawequal(neap.cpu(3), neap.cpu(3)))
    assert.is_true(rawequal(neap.cpu(), neap.cpu(0)))
    assert.not_equal(neap.cpu(0), neap.gpu(0))
    assert.equal('cpu', neap.cpu(1).device_type)
    assert.equal(1, neap.cpu(1).device_id)
    assert.equal('cpu(1)', tostring(neap.cpu(1)))
    assert.equal('gpu(2)', tostring(neap.gpu(2)))
    assert.equal('number', type(neap.num_gpus()))
  end)

  it('refuse numbers that are none', function()
    raises(function() neap.cpu(-1) end, 'cpu', '-1')
    raises(function() neap.cpu(0.5) end, '0.5')
    raises(function() neap.cpu('0') end, '"0"')
    raises(function() neap.gpu({}) end, 'gpu', 'table')
  end)
end)

describe('neap', function()
  it('knows its version, and nothing by unknown names', function()
    assert.truthy(neap.version:match('^%d+%.%d+%.%d+$'))
    assert.is_nil(neap.zeros)
  end)

  it('counts what the engine does', function()
    local before = neap.counters()
    local a = nd.ones(1000)
    a:add_(1)
    neap.waitall()
    local after = neap.counters()
    assert.is_true(after.ops >= before.ops + 2)
    assert.equal(0, after.pending)
    assert.is_true(after.bytes >= before.bytes + 4000)
    assert.is_true(after.threads >= 0)
    a:close()
  end)

  it('takes the engine and its threads from the environment', function()
    local source = [[
      local neap = require 'neap'
      local a = neap.nd.ones(10)
      for i = 1, 10 do a = a + a end
      print(neap.counters().threads, a:sum():item())
    ]]
    assert.equal('3\t10240\n', support.run(source, 'NEAP_ENGINE=threaded NEAP_NUM_THREADS=3'))
    assert.equal('0\t10240\n', support.run(source, 'NEAP_ENGINE=threaded NEAP_NUM_THREADS=0'))
    assert.equal('0\t10240\n', support.run(source, 'NEAP_ENGINE=naive'))
  end)

  it('names an environment variable that makes no sense', function()
    local output, ok = support.run("require('neap').nd.ones(1)", 'NEAP_ENGINE=fast')
    assert.is_false(ok)
    assert.truthy(output:find('NEAP_ENGINE', 1, true), output)
    output, ok = support.run("require('neap').nd.ones(1)", 'NEAP_NUM_THREADS=two')
    assert.is_false(ok)
    assert.truthy(output:find('NEAP_NUM_THREADS', 1, true), output)
  end)

  it('ends with work queued and arrays alive, and after os.exit', function()
    local source = [[
      local nd = require('neap').nd
      local keep = {}
      for i = 1, 200 do keep[i] = nd.ones({ 100, 100 }) + i end
      local lost = nd.ones(10):take({ 11 })
      print('done')
    ]]
    for _, ending in ipairs {
      '', 'os.exit(0)', 'os.exit(0, true)', 'keep = nil collectgarbage()',
    } do
      local output, ok = support.run(source .. ending)
      assert.equal('done\n', output)
      assert.is_true(ok)
    end
  end)

  it('gives the same bits on every engine, whatever is viewed, closed or dropped', function()
    local source = [[
      local neap = require 'neap'
      local nd = neap.nd
      math.randomseed(5)
      neap.seed(5)
      local function random(n) return math.random(0, n - 1) end
      local arrays = {}
      for i = 1, 20 do arrays[i] = nd.random.uniform(-1, 1, { 20, 30 }) end
      local steps = {
        function(a, b) a:add_(b) end, function(a, b) a:axpy_(-0.5, b) end,
        function(a, b) a:mul_(b):clip(-9, 9):copyto(a) end,
        function(a, b) a:at(random(20)):set(b:at(random(20))) end,
        function(a, b) a:slice(3, 9):sub_(b:slice(10, 16)) end,
        function(a, b) a:set(nd.tanh(a + b:sum(0)) / 2) end,
        function(a, b) a:add_(b:mean(1, true)) end,
        function(a, b) local t = b:transpose() a:add_(t:reshape({ 20, 30 })) t:close() end,
        function(a, b) nd.concat({ a:slice(0, 10), b:slice(10) }):copyto(a) end,
        function(a, b) a:set(b:take({ random(20), random(20) }):sum(0)) end,
        function(a, b) a:set(nd.dot(nd.dot(a, b, { tb = true }), b)):set(nd.sigmoid(a)) end,
        function(a, b) a:set(nd.random.normal(0, 1, { 20, 30 })):add_(b) end,
        function(a, b) a:set(b:tostype('row_sparse'):retain({ 1, 5 }):tostype('default')) end,
      }
      for _ = 1, 3000 do
        local a, b = arrays[math.random(20)], arrays[math.random(20)]
        steps[math.random(#steps)](a, b)
      end
      for _, a in ipairs(arrays) do
        local bits, hash = require('ffi').cast('uint32_t *', a:data()), 0
        for i = 0, a.size - 1 do hash = (hash * 33 + bits[i]) % 2 ^ 45 end
        print(('%.0f'):format(hash))
      end
    ]]
    local serial, ok = support.run(source, 'NEAP_ENGINE=naive')
    assert.is_true(ok, serial)
    for threads = 0, 4, 2 do
      local environment = 'NEAP_ENGINE=threaded NEAP_NUM_THREADS=' .. threads
      assert.equal(serial, (support.run(source, environment)))
    end
  end)

  it('starts no thread until it is used', function()
    local output = support.run([[
      require 'neap'
      for line in io.lines('/proc/self/status') do
        if line:find('^Threads:') then print(line:match('%d+')) end
      end
    ]])
    assert.equal('1\n', output)
  end)

  it('works in coroutines, and survives being required anew', function()
    local a = coroutine.wrap(function() return nd.ones(2) + 1 end)()
    assert.same({ 2, 2 }, a:totable())
    local output, ok = support.run([[
      local first = require('neap').nd.ones(2)
      for name in pairs(package.loaded) do
        if name:find('^neap') then package.loaded[name] = nil end
      end
      collectgarbage()
      local second = require('neap').nd.ones(2)
      print(first:sum():item(), second:sum():item())
    ]])
    assert.equal('2\t2\n', output)
    assert.is_true(ok)
  end)
end)

describe('late errors', function()
  local function failed() return nd.ones({ 2, 2 }):take({ 5 }) end

  it('are raised by every way of reading, at the reader', function()
    for _, read in ipairs {
      function(a) a:totable() end, function(a) a:wait_to_read() end, function(a) a:data() end,
      function(a) local _ = tostring(a) end, function(a) a:sum():item() end,
      function(a) a:reshape(2):at(0):item() end,
    } do
      local a = failed()
      raises(function() read(a) end, 'take', '5')
      pcall(neap.waitall)
    end
  end)

  it('travel to what depends on them, and no further', function()
    local good, bad = nd.ones({ 1, 2 }), failed()
    local sum = good + bad
    local fine = good + 1
    raises(function() sum:totable() end, 'take')
    assert.same({ { 2, 2 } }, fine:totable())
    assert.same({ { 1, 1 } }, good:totable())
    pcall(neap.waitall)
  end)

  it('are raised by waitall, once', function()
    local bad = failed()
    raises(function() neap.waitall() end, 'take', '5')
    neap.waitall()
    bad:close()
  end)

  it('are over when a whole new value is assigned', function()
    local bad = failed()
    pcall(neap.waitall)
    pcall(bad.wait_to_read, bad)
    bad:set(3)
    assert.same({ { 3, 3 } }, bad:totable())
  end)
end)
