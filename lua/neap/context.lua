-- SPDX-License-Identifier: MIT
--- The one context of a Lua state (the engine and its memory), and the devices arrays are on.
--
-- Lua programs want no handle to pass around, so there is one neap_context for each Lua
-- state. It is made at the first use, so that a program may `require 'neap'`, fork, and
-- only then work. It stands in the registry: modules that are unloaded and required again,
-- as test runners do, find the same one, and the library stays loaded as long as it lives.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local raise = require 'neap.raise'

local M = {}

local REGISTRY_KEY = 'neap.context'

local handle -- neap_context *, once it is made

local LEVELS = { error = C.NEAP_LOG_ERROR, warn = C.NEAP_LOG_WARN, info = C.NEAP_LOG_INFO,
  debug = C.NEAP_LOG_DEBUG }

--- The log, on standard error: where NEAP_LOG asks for it, and in a process of `neap launch`, which
-- somebody watches. What it is written by is kept with the context.
local function open_log(options)
  local level = LEVELS[os.getenv('NEAP_LOG') or os.getenv('NEAP_ROLE') and 'warn']
  if not level then return nil end
  local rank = os.getenv('NEAP_RANK')
  local ok, lines = pcall(function()
    return require('neap.host_library').log(options, level, rank and 'neap ' .. rank or 'neap')
  end)
  return ok and lines or nil -- without that library there is no log
end

local function create()
  local registry = debug.getregistry()
  local known = registry[REGISTRY_KEY]
  if not known then
    local options = ffi.new('neap_options')
    C.neap_options_init(options, ffi.sizeof(options))
    raise.check(C.neap_options_env(options)) -- NEAP_ENGINE, NEAP_NUM_THREADS
    local lines = open_log(options)
    local out = ffi.new('neap_context *[1]')
    raise.check(C.neap_context_create(options, out))
    -- Handles may be closed after their context (neap.h), so the order in which the
    -- collector ends things when the state closes does not matter.
    known = { context = ffi.gc(out[0], C.neap_context_close), library = C, lines = lines }
    registry[REGISTRY_KEY] = known
  end
  handle = known.context
  return handle
end

--- The context's handle, for calls into the library.
---@return ffi.cdata* neap_context *
function M.handle()
  return handle or create()
end

--- Waits until everything queued so far has run; raises the first failure that no reader
-- has been told of.
function M.waitall()
  raise.check(C.neap_wait_all(M.handle()))
end

local LARGEST_SEED = 2 ^ 53

--- Restarts the random numbers: what is drawn afterwards depends on `n` alone.
---@param n integer from 0 to 2^53, or an (u)int64
function M.seed(n)
  if type(n) == 'number' then
    if n < 0 or n > LARGEST_SEED or n % 1 ~= 0 then
      raise.raise('seed: an integer from 0 to 2^53 is wanted, not %s', raise.describe(n))
    end
  elseif not (ffi.istype('int64_t', n) or ffi.istype('uint64_t', n)) then
    raise.raise('seed: an integer is wanted, not %s', raise.describe(n))
  end
  raise.check(C.neap_seed(M.handle(), n))
end

local COUNTERS = {
  ops = C.NEAP_COUNT_OPS,
  pending = C.NEAP_COUNT_PENDING,
  bytes = C.NEAP_COUNT_BYTES,
  bytes_pooled = C.NEAP_COUNT_BYTES_POOLED,
  bytes_peak = C.NEAP_COUNT_BYTES_PEAK,
  allocations = C.NEAP_COUNT_ALLOCATIONS,
  threads = C.NEAP_COUNT_THREADS,
}

--- What the engine is doing, as numbers: ops queued so far, pending ones, bytes of array
-- memory in use, pooled and at their peak, calls of the allocator, worker threads.
---@return table<string, number>
function M.counters()
  local counts = {}
  for name, number in pairs(COUNTERS) do
    counts[name] = tonumber(C.neap_counter(M.handle(), number))
  end
  return counts
end

-- ---- Devices -----------------------------------------------------------------------------

---@class neap.Device
---@field device_type string 'cpu' or 'gpu'
---@field device_id integer
---@field code integer the library's number of the device type
local Device = {}
Device.__index = Device
Device.__tostring = function(self) return ('%s(%d)'):format(self.device_type, self.device_id) end

-- One object for each device, so that `==` compares devices.
local devices = { cpu = {}, gpu = {} }
local CODES = { cpu = C.NEAP_CPU, gpu = C.NEAP_GPU }
local NAMES = { [C.NEAP_CPU] = 'cpu', [C.NEAP_GPU] = 'gpu' }
local LARGEST_ID = 2 ^ 31 - 1

local function device(kind, id)
  local known = devices[kind][id]
  if known then return known end
  if type(id) ~= 'number' or id % 1 ~= 0 or id < 0 or id > LARGEST_ID then
    raise.raise('%s: a device number from 0 is wanted, not %s', kind, raise.describe(id))
  end
  known = setmetatable({ device_type = kind, device_id = id, code = CODES[kind] }, Device)
  devices[kind][id] = known
  return known
end

--- Logical CPU device `i`: any number, so that multi-device programs run on any machine.
---@param i? integer from 0, the default
---@return neap.Device
function M.cpu(i) return (device('cpu', i or 0)) end

--- GPU `i`. Arrays can be made on it only where neap.num_gpus() is larger than `i`.
---@param i? integer from 0, the default
---@return neap.Device
function M.gpu(i) return (device('gpu', i or 0)) end

--- How many GPUs arrays can be made on. This version of the library has no GPU kernels.
---@return integer
function M.num_gpus() return 0 end

---@param x any
---@return boolean
function M.is_device(x) return getmetatable(x) == Device end

--- The device of the library's numbers.
---@param code integer
---@param id integer
---@return neap.Device
function M.device(code, id) return (device(NAMES[code], id)) end

return M
