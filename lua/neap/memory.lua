-- SPDX-License-Identifier: MIT
--- Collection pressure: makes loops with temporaries run in bounded memory.
--
-- Lua's collector paces itself by the bytes it allocates, and an array of a megabyte is 40
-- bytes to it. So this file counts the bytes that arrays hold, and drives the collector as
-- if they were Lua's own:
--
--   held   bytes of arrays that are alive, or dead and not found out yet
--   floor  held at the end of the last cycle: what was really alive, about
--   slack  how much garbage may pile up: half of the floor, at least SLACK_MIN, at least
--          HEAP_FACTOR times Lua's own heap, at most SLACK_MAX
--
-- Nothing is done until held is above floor + slack. Then every STEP bytes taken make a
-- step of the collector, so large that one whole cycle is through before another half
-- slack is taken: pauses are short, and memory stays below what is alive plus three times
-- slack. Where one array is so large that steps cannot keep up, the whole cycle runs at
-- once.
--
-- A cycle costs what Lua's heap is large (all of it is marked), whatever the arrays hold.
-- That is why the heap is in the slack: with a million live tables a cycle takes 0.1 s or
-- more, and must not run for every 32 MB. A program that holds only long-lived arrays
-- takes nothing and pays nothing.
--
-- The engine runs behind: a closed array's memory is free only when the work queued on it
-- is done. So whoever takes memory faster than the engine gives it back is made to help it.

local C = require 'neap.ffi'
local ffi = require 'ffi'
local context = require 'neap.context'

local M = {}

local MB = 2 ^ 20
local STEP = 4 * MB
local SLACK_MIN = 32 * MB
local SLACK_MAX = 1024 * MB
local HEAP_FACTOR = 4

--- Bytes that any array costs besides its elements: handle, chunk, variable, Lua's share.
M.OVERHEAD = 512

local held = 0          -- see above
local floor = 0
local slack = SLACK_MIN
local goal = SLACK_MIN  -- floor + slack
local debt = 0          -- bytes taken since settle() ran

-- Bytes the engine holds that no Lua array does (stores have some too), as seen when
-- nothing was queued; more than that is memory waiting for queued work.
local outside_base = 0

-- ---- Waiting for the engine ---------------------------------------------------------------

local HELP_MICROSECONDS = 1000
local HELP_ROUNDS = 2000 -- then leave it: work may hang on another process

if ffi.os ~= 'Windows' and not pcall(function() return ffi.C.usleep end) then
  ffi.cdef 'int usleep(unsigned microseconds);'
end
local nap = ffi.os ~= 'Windows' and function() ffi.C.usleep(50) end or function() end

local function outside()
  local bytes = tonumber(C.neap_counter(context.handle(), C.NEAP_COUNT_BYTES)) - held
  if bytes < outside_base then outside_base = math.max(bytes, 0) end
  return bytes
end

--- Runs queued work here while it holds more than `slack` bytes back.
local function help_engine()
  local handle = context.handle()
  for _ = 1, HELP_ROUNDS do
    if outside() <= outside_base + slack then return end
    if C.neap_counter(handle, C.NEAP_COUNT_PENDING) == 0 then
      outside_base = math.max(outside(), 0) -- nobody's temporaries: stores and the like
      return
    end
    if C.neap_poll(handle, HELP_MICROSECONDS) == 0 then nap() end
  end
end

-- ---- Driving the collector ----------------------------------------------------------------

local function set_goal()
  local heap = collectgarbage('count') * 1024
  slack = math.min(math.max(SLACK_MIN, floor / 2, HEAP_FACTOR * heap), SLACK_MAX)
  goal = floor + slack
end

local function cycle_ended()
  floor = held
  set_goal()
end

local function collect(taken)
  if not collectgarbage('isrunning') then return end -- the program's own wish
  if held > goal + slack then
    collectgarbage()
    return cycle_ended()
  end
  -- A step of n KB does the work that n KB of Lua's own allocation would: 2n KB of
  -- marking. Heap KB is somewhat more than one cycle; half a slack's worth of steps ends it.
  local heap = collectgarbage('count')
  if collectgarbage('step', math.ceil(heap * taken / (slack / 2))) then cycle_ended() end
end

local function settle()
  local taken = debt
  debt = 0
  if held > goal then collect(taken) end
  if outside() > outside_base + slack then help_engine() end
end

--- An array that holds `bytes` was made. May run the collector.
---@param bytes number
function M.take(bytes)
  held = held + bytes
  debt = debt + bytes
  if debt >= STEP then settle() end
end

--- An array that held `bytes` is gone. Runs inside finalizers: allocates nothing.
---@param bytes number
function M.give(bytes)
  held = held - bytes
  -- Where much was dropped at once, the goal comes down along with what is held.
  if held < floor then
    floor = held
    goal = held + slack
  end
end

--- What the policy sees: bytes held by arrays, and the goal.
---@return number held
---@return number goal
function M.state() return held, goal end

return M
