-- SPDX-License-Identifier: MIT
-- What one push and one pull of a 16-float key cost from Lua, which a training step does for each
-- of its many small parameters: against copying 16 floats twice through a C function, and against
-- 5 microseconds. Large arrays are in store_bench.c.
--
-- luajit spec/bench/kv_bench.lua

local ffi = require 'ffi'
local neap = require 'neap'
local nd = neap.nd

ffi.cdef [[
struct neap_bench_timespec { long sec, nsec; };
int clock_gettime(int clock, struct neap_bench_timespec *time);
void *memcpy(void *to, const void *from, size_t bytes);
]]

local time = ffi.new('struct neap_bench_timespec')
local function now() -- seconds
  ffi.C.clock_gettime(1, time)
  return tonumber(time.sec) + tonumber(time.nsec) * 1e-9
end

-- The best of several rounds, in seconds for one call of f.
local function best(rounds, calls, f)
  local least = math.huge
  for _ = 1, rounds do
    local start = now()
    f(calls)
    least = math.min(least, (now() - start) / calls)
  end
  return least
end

local function small(kind, optimizer)
  local kv = neap.kv.create(kind)
  local value, out = nd.ones({ 16 }), nd.zeros({ 16 })
  kv:init('w', value)
  if optimizer then kv:set_optimizer(optimizer) end
  local function queue_and_run(n)
    for _ = 1, n do
      kv:push('w', value)
      kv:pull('w', out)
    end
    out:wait_to_read()
  end
  local function one_by_one(n)
    for _ = 1, n do
      kv:push('w', value)
      kv:pull('w', out)
      out:wait_to_read()
    end
  end
  queue_and_run(2000)
  local stream, single = best(10, 20000, queue_and_run), best(10, 5000, one_by_one)
  kv:close()
  return stream * 1e9, single * 1e9
end

local a, b = ffi.new('float[16]'), ffi.new('float[16]')
local copy = best(10, 100000, function(n)
  for _ = 1, n do
    ffi.C.memcpy(b, a, 64)
    ffi.C.memcpy(a, b, 64)
  end
end) * 1e9

print(('%d threads'):format(neap.counters().threads))
print(('%-34s %9s %9s %12s'):format('push + pull of 16 floats', 'queued', 'awaited', 'of 5 us'))
for _, case in ipairs {
  { 'local' }, { 'device' }, { 'local', 'sgd' }, { 'local', 'adam' },
} do
  local optimizer = case[2] and neap.optim[case[2]] and neap.optim[case[2]] {}
  if optimizer or not case[2] then
    local stream, single = small(case[1], optimizer)
    print(('%-34s %6.0f ns %6.0f ns %6.2f %5.2f'):format(
      case[1] .. (case[2] and ', ' .. case[2] or ''), stream, single, stream / 5000,
      single / 5000))
  end
end
print(('%-34s %6.0f ns'):format('two copies of 16 floats', copy))
