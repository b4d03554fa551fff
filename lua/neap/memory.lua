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
-- That is why the heap is in the slack. A program that makes no new arrays pays nothing.
-- Measured, on two cores of a Xeon: `local t = nd.zeros({512, 512}) + 1`, two temporaries
-- of 1 MB, on the naive engine:
--
--   Lua's heap            one cycle   time of an iteration        most memory
--   0.5 MB                   0.1 ms   0.12 ms                           29 MB
--   10 MB, 100,000 tables    2.3 ms   0.44 ms, collector 0.10           69 MB
--   92 MB, 1,000,000 tables   75 ms   0.86 ms, collector 0.35          588 MB
--   any, with close()             -   0.06 ms                      heap + 3 MB
--
-- The rest is what memory costs that is no longer in a cache. With a fixed slack of 16 MB
-- the collector would take 9 ms of each iteration over a million tables. On the threaded
-- engine 100,000 temporaries stay below 100 MB, 64 of which may wait for queued work.
--
-- How large row-sparse arrays become is not known when they are made. So at each of them the
-- engine's own count of bytes in use is compared with `held`: where it has grown by more than
-- slack, and by what may be waiting for queued work, a cycle runs.
--
-- A closed array's memory is free only when the work queued on it is done; the engine itself
-- sees to it that not too much is waiting there.

local C = require 'neap.ffi'
local context = require 'neap.context'

local M = {}

local MB = 2 ^ 20
local STEP = 2 * MB
local SLACK_MIN = 16 * MB
local SLACK_MAX = 1024 * MB
local HEAP_FACTOR = 4

--- Bytes that any array costs besides its elements: handle, chunk, variable, Lua's share.
M.OVERHEAD = 512

local held = 0          -- see above
local floor = 0
local slack = SLACK_MIN
local goal = SLACK_MIN  -- floor + slack
local debt = 0          -- bytes taken since the collector was last thought of

-- Bytes in use that are not in `held`, as seen at the last look().
local hidden_base = 0
local DYING_MAX = 64 * MB -- what the engine lets wait for queued work, see engine/pool.h

local function bytes_in_use()
  return (tonumber(C.neap_counter(context.handle(), C.NEAP_COUNT_BYTES)))
end

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

--- An array that holds `bytes` was made. May run the collector.
---@param bytes number
function M.take(bytes)
  held = held + bytes
  debt = debt + bytes
  if debt >= STEP then
    local taken = debt
    debt = 0
    if held > goal then collect(taken) end
  end
end

--- A row-sparse array is being made. May run the collector.
function M.look()
  local hidden = bytes_in_use() - held
  if hidden < hidden_base then
    hidden_base = hidden
  elseif hidden > hidden_base + slack + DYING_MAX and collectgarbage('isrunning') then
    collectgarbage()
    cycle_ended()
    hidden_base = bytes_in_use() - held -- stores have some, and that is not garbage
  end
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
