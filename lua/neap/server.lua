-- SPDX-License-Identifier: MIT
--- A server of a job, within this process: holds a share of the keys, on threads of its own.
--
--   local server = neap.server.start { root_uri = 'tcp://127.0.0.1:9091', num_workers = 2,
--     num_servers = 1, controller = function(head, body) return body:upper() end }
--   server:wait()             -- until all workers have left
--
-- The controller gets what workers send with kv:send_command_to_servers(); what it returns is the
-- answer. The library never calls into Lua: commands wait until wait() or poll() is called, and
-- their senders with them. Where there is no controller they are refused.
--
-- Optimizers are scripts, which libneap_host runs, in Lua states made for nothing else.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local host_library = require 'neap.host_library'
local job_of = require 'neap.job'
local raise = require 'neap.raise'

local M = {}

---@class neap.Server
---@field uri string where workers reach it
---@field rank integer -1 until the scheduler has given one
local Server = {}

function Server:__index(name)
  if name == 'rank' then return self._handle and C.neap_server_rank(self._handle) or -1 end
  return Server[name]
end

--- Of a job that is known.
---@param job neap.Job
---@param controller? fun(head: number, body: string): string|nil
---@return neap.Server
function M.start_for(job, controller)
  local scripts, close_scripts = host_library.open()
  local context = job_of.context()
  job.options.scripts = scripts
  job.options.controller = controller and 1 or 0
  local out = ffi.new('neap_server *[1]')
  local status = C.neap_server_start(context, job.options, out)
  if status ~= 0 then
    local why = ffi.string(C.neap_error())
    close_scripts()
    C.neap_context_close(context)
    raise.raise('%s', why)
  end
  local function finish(handle)
    C.neap_server_close(handle)
    close_scripts()
    C.neap_context_close(context)
  end
  return setmetatable({
    uri = ffi.string(C.neap_server_uri(out[0])),
    _handle = ffi.gc(out[0], finish), -- the collector closes a forgotten one
    _finish = finish,
    _controller = controller,
  }, Server)
end

--- Starts it. Options: those of job.lua, the environment has what they lack, and `controller`.
---@param opts? table
---@return neap.Server
function M.start(opts)
  local where = 'server.start'
  if opts ~= nil and type(opts) ~= 'table' then
    raise.raise('%s: options are a table, not %s', where, raise.describe(opts))
  end
  local given, controller = {}, nil
  for name, value in pairs(opts or {}) do
    if name == 'controller' then controller = value else given[name] = value end
  end
  if controller ~= nil and type(controller) ~= 'function' then
    raise.raise('%s: controller is a function, not %s', where, raise.describe(controller))
  end
  return M.start_for(job_of.read(given, 'server', where), controller)
end

local function open(self) return self._handle or raise.raise('this server was closed') end

local head, body, size = ffi.new('double[1]'), ffi.new('const char *[1]'), ffi.new('size_t[1]')

--- Answers the next command, if there is one within `seconds`. A controller that raises ends
-- nothing: its error is the answer. Without a controller there is nothing to do.
---@param seconds? number 0 if none is given
---@return boolean answered
function Server:poll(seconds)
  local handle = open(self)
  if not self._controller then return false end
  local status = C.neap_server_command(handle, seconds or 0, head, body, size)
  if status == C.NEAP_ETIMEOUT then return false end
  raise.check(status)
  local ok, answer = pcall(self._controller, head[0], ffi.string(body[0], size[0]))
  answer = (ok and answer == nil) and '' or tostring(answer)
  raise.check(C.neap_server_answer(handle, answer, #answer))
  return true
end

--- Waits until the job is over, and answers commands. Raises when the scheduler is gone for longer
-- than the time-out.
---@param seconds? number at most; nil: however long
---@return boolean over
function Server:wait(seconds)
  local handle = open(self)
  return job_of.wait(function(time)
    if not self._controller then return C.neap_server_wait(handle, time) end
    self:poll(time)
    return C.neap_server_wait(handle, 0)
  end, seconds)
end

--- Ends it. What it holds is gone. May be called again.
function Server:close()
  local handle = self._handle
  if not handle then return end
  self._handle = nil
  self._finish(ffi.gc(handle, nil))
end

--- Leaves its end to somebody else: the collector does not close it any more.
function Server:keep() self._handle = ffi.gc(self._handle, nil) end

return M
