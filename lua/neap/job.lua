-- SPDX-License-Identifier: MIT
--- Which job this process is of, and as what: by options, or by its environment.
--
--   root_uri         the scheduler's address, 'tcp://127.0.0.1:9091'. Who gives it tells all of
--   num_workers      these three, and the environment is not asked
--   num_servers
--   rank             of this worker or server; else the scheduler gives one
--   timeout          seconds without a sign of life until a process counts as dead: 60
--   on_worker_lost   'fail': whoever waits for a dead worker is told so; or 'continue'
--   bigarray_bound   keys of more elements are split over all servers: 1,000,000
--   secret           what all processes of the job know; needed for addresses of other hosts
--   admin_secret     what those know who may change the optimizer and send commands, where servers
--                    have one; else all of the job may
--   observer         true: a store without keys that looks on, and may change the optimizer; needs
--                    root_uri alone
--   listen_uri       servers: where they listen; and where workers reach them, unless that is an
--   advertise_uri    other address, behind NAT or a container's port
--   tls_ca, tls_cert files, for tls+tcp://
--
-- Without root_uri the environment has it: NEAP_ROLE, NEAP_ROOT_URI, NEAP_NUM_WORKERS,
-- NEAP_NUM_SERVERS, NEAP_RANK, as `neap launch` sets them; the DMLC_ names of these; or the ranks
-- that torchrun, mpirun, srun and Kubernetes give: neap_job_options_env() in neap.h. Options that
-- are given besides come before it. What is in neither, is in NEAP_TIMEOUT and others named alike.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local raise = require 'neap.raise'

local M = {}

local TYPES = {
  root_uri = 'string', num_workers = 'number', num_servers = 'number', rank = 'number',
  timeout = 'number', on_worker_lost = 'string', bigarray_bound = 'number', secret = 'string',
  admin_secret = 'string', observer = 'boolean', listen_uri = 'string', advertise_uri = 'string',
  tls_ca = 'string', tls_cert = 'string',
}
local WHOLE = { num_workers = 1, num_servers = 1, rank = 0, bigarray_bound = 1 } -- and least
local LOST = { fail = C.NEAP_LOST_FAIL, continue = C.NEAP_LOST_CONTINUE }

local ROLES = {
  worker = C.NEAP_ROLE_WORKER, server = C.NEAP_ROLE_SERVER, scheduler = C.NEAP_ROLE_SCHEDULER,
}
local ROLE_NAMES = {}
for name, code in pairs(ROLES) do ROLE_NAMES[code] = name end

local function names()
  local list = {}
  for name in pairs(TYPES) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, ', ')
end

local function check(opts, where)
  for name, value in pairs(opts) do
    local kind, least = TYPES[name], WHOLE[name]
    if not kind then
      raise.raise('%s: unknown option %s; there are %s', where, raise.describe(name), names())
    end
    if type(value) ~= kind then
      raise.raise('%s: %s is a %s, not %s', where, name, kind, raise.describe(value))
    end
    if least and (value % 1 ~= 0 or value < least or value > (name == 'bigarray_bound' and 2 ^ 53 or
        2 ^ 20)) then
      raise.raise('%s: %s is a whole number from %d, not %s', where, name, least,
        raise.describe(value))
    end
  end
  if opts.timeout and not (opts.timeout > 0 and opts.timeout < math.huge) then
    raise.raise('%s: timeout is a number of seconds above 0, not %s', where,
      raise.describe(opts.timeout))
  end
  if opts.on_worker_lost and not LOST[opts.on_worker_lost] then
    raise.raise("%s: on_worker_lost is 'fail' or 'continue', not %s", where,
      raise.describe(opts.on_worker_lost))
  end
end

local function log(place)
  if place.log_level >= C.NEAP_LOG_INFO then
    io.stderr:write('neap: info: ', ffi.string(place.how), '\n')
  end
end

---@class neap.Job
---@field role 'worker'|'server'|'scheduler'|nil nil: this process is of no job
---@field options ffi.cdata* neap_job_options
---@field host_scheduler boolean the scheduler has to run in this process, too
---@field host_server boolean so does the one server

--- Reads options and environment. `role` is what this process is anyway, nil if that is what the
-- environment tells; `where` begins the texts of errors.
---@param opts table
---@param role string|nil
---@param where string
---@return neap.Job
function M.read(opts, role, where)
  check(opts, where)
  local c = ffi.new('neap_job_options')
  C.neap_job_options_init(c, ffi.sizeof(c))
  local job = { options = c, role = role, host_scheduler = false, host_server = false }
  if opts.root_uri then
    for _, name in ipairs { 'num_workers', 'num_servers' } do
      if not opts[name] and not opts.observer then
        raise.raise('%s: root_uri needs %s beside it', where, name)
      end
    end
    raise.check(C.neap_job_options_env(c, nil, nil))
    job.role = role or 'worker'
  else
    local place = ffi.new('neap_job_place')
    place.size, place.role = ffi.sizeof(place), role and ROLES[role] or C.NEAP_ROLE_NONE
    raise.check(C.neap_job_options_env(c, nil, place))
    job.role = ROLE_NAMES[place.role]
    job.host_scheduler, job.host_server = place.host_scheduler ~= 0, place.host_server ~= 0
    job.place = place -- holds texts that c points to
    if job.role then log(place) end
  end
  for name, value in pairs(opts) do
    if name == 'observer' then value = value and 1 or 0 end
    c[name] = name == 'on_worker_lost' and LOST[value] or value
  end
  job.texts = opts -- which c points to, too
  return job
end

--- A context for a server or scheduler: apart from the one that this Lua state works in, so that
-- neither waits for the other's work.
---@param threads integer|nil nil: as many as NEAP_NUM_THREADS or the processor has
---@return ffi.cdata* neap_context *
function M.context(threads)
  local options = ffi.new('neap_options')
  C.neap_options_init(options, ffi.sizeof(options))
  raise.check(C.neap_options_env(options))
  if threads then options.num_threads = threads end
  local out = ffi.new('neap_context *[1]')
  raise.check(C.neap_context_create(options, out))
  return out[0]
end

--- Calls step(seconds), which returns a status, until that is not NEAP_ETIMEOUT or `seconds` have
-- passed (nil: however long). In short steps, so that Ctrl-C is noticed between them.
---@return boolean over false: the time has passed
function M.wait(step, seconds)
  local STEP = 0.1
  local left = seconds or math.huge
  repeat
    local status = step(math.min(left, STEP))
    if status == C.NEAP_OK then return true end
    if status ~= C.NEAP_ETIMEOUT then raise.raise_last() end
    left = left - STEP
  until left <= 0
  return false
end

return M
