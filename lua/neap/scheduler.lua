-- SPDX-License-Identifier: MIT
--- The scheduler of a job, within this process, on threads of its own.
--
--   local scheduler = neap.scheduler.start { root_uri = 'tcp://127.0.0.1:0',
--     num_workers = 2, num_servers = 1 }
--   print(scheduler.uri)      -- with the port that the system chose
--   scheduler:wait()          -- until all workers have left

local ffi = require 'ffi'
local C = require 'neap.ffi'
local job_of = require 'neap.job'
local raise = require 'neap.raise'

local M = {}

---@class neap.Scheduler
---@field uri string its address
local Scheduler = {}
Scheduler.__index = Scheduler

--- Of a job that is known.
---@param job neap.Job
---@return neap.Scheduler
function M.start_for(job)
  local context = job_of.context(0) -- it computes nothing
  local out = ffi.new('neap_scheduler *[1]')
  local status = C.neap_scheduler_start(context, job.options, out)
  if status ~= 0 then
    local why = ffi.string(C.neap_error())
    C.neap_context_close(context)
    raise.raise('%s', why)
  end
  local function finish(handle)
    C.neap_scheduler_close(handle)
    C.neap_context_close(context)
  end
  return setmetatable({
    uri = ffi.string(C.neap_scheduler_uri(out[0])),
    _handle = ffi.gc(out[0], finish), -- the collector closes a forgotten one
    _finish = finish,
  }, Scheduler)
end

--- Starts it. Options: those of job.lua; the environment has what they lack.
---@param opts? table
---@return neap.Scheduler
function M.start(opts)
  local where = 'scheduler.start'
  if opts ~= nil and type(opts) ~= 'table' then
    raise.raise('%s: options are a table, not %s', where, raise.describe(opts))
  end
  return M.start_for(job_of.read(opts or {}, 'scheduler', where))
end

--- Waits until the job is over: all workers have left.
---@param seconds? number at most; nil: however long
---@return boolean over
function Scheduler:wait(seconds)
  local handle = self._handle or raise.raise('this scheduler was closed')
  return job_of.wait(function(time) return C.neap_scheduler_wait(handle, time) end, seconds)
end

--- Ends it. May be called again.
function Scheduler:close()
  local handle = self._handle
  if not handle then return end
  self._handle = nil
  self._finish(ffi.gc(handle, nil))
end

--- Leaves its end to somebody else: the collector does not close it any more.
function Scheduler:keep() self._handle = ffi.gc(self._handle, nil) end

return M
