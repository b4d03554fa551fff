-- SPDX-License-Identifier: MIT
--- What is different in a store of a job: values and optimizer are on servers. kv.lua has checked
-- what it hands over.
--
--   neap launch -n 4 -s 2 luajit train.lua        local kv = neap.kv.create 'dist_sync'
--   mpirun -n 4 luajit train.lua                  the same; so do srun and torchrun
--   neap.kv.create('dist_sync', { root_uri = 'tcp://10.0.0.1:9091', num_workers = 4,
--     num_servers = 2 })                          beside `neap scheduler` and `neap server`
--
-- Options and environment: job.lua. Where that makes this process the home of the scheduler or of a
-- server, create starts them here: they end with the job, for which close() waits then. Where it
-- makes this process a server or scheduler alone, create does not return: the process ends with
-- status 0 when the job is over. So one program serves for all processes of a job.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local context = require 'neap.context'
local job_of = require 'neap.job'
local pack = require 'neap.pack'
local raise = require 'neap.raise'

local M = {}

-- ---- Joining and leaving -------------------------------------------------------------------

--- Starts what has to live in this process: a list of servers and schedulers, in the order in
-- which they end.
local function start_hosted(job)
  local hosted, scheduler = {}, nil
  if job.host_scheduler or job.role == 'scheduler' then
    scheduler = require('neap.scheduler').start_for(job)
  end
  if job.host_server or job.role == 'server' then
    hosted[1] = require('neap.server').start_for(job)
  end
  hosted[#hosted + 1] = scheduler
  return hosted
end

local function finish_hosted(hosted)
  for _, process in ipairs(hosted) do
    process:wait()
    process:close()
  end
end

local at_the_end = {}

--- A store with servers in this process is not forgotten: when the program ends without having
-- closed it, it is closed then, and the others are waited for. The order in which the collector
-- ends things at the end is not known, so that none of them has a finalizer of its own.
local function close_at_the_end(self)
  for _, process in ipairs(self._hosted) do process:keep() end
  at_the_end[self] = ffi.gc(ffi.new('char[1]'), function() self:close() end)
end

--- Joins the job as a worker. Waits until all servers are there.
---@param name string
---@param opts table see job.lua
function M.open(self, name, opts)
  local job = job_of.read(opts, nil, 'kv.create')
  local out = ffi.new('neap_store *[1]')
  if not job.role then
    raise.check(C.neap_store_create(context.handle(), name, out)) -- says how a job is started
  end
  local hosted = start_hosted(job)
  if job.role ~= 'worker' then
    finish_hosted(hosted)
    os.exit(0, true)
  end
  local status = C.neap_store_join(context.handle(), name, job.options, out)
  if status ~= 0 then
    local why = ffi.string(C.neap_error())
    for _, process in ipairs(hosted) do process:close() end
    raise.raise('%s', why)
  end
  self._hosted = hosted
  if #hosted > 0 then
    self._handle = out[0]
    close_at_the_end(self)
  else
    self._handle = ffi.gc(out[0], C.neap_store_close) -- a forgotten store leaves in order, too
  end
  self.rank = C.neap_store_rank(self._handle)
  self.num_workers = C.neap_store_num_workers(self._handle)
  self.num_servers = C.neap_store_num_servers(self._handle)
end

function M.close(self, handle)
  C.neap_store_close(ffi.gc(handle, nil))
  finish_hosted(self._hosted)
  if at_the_end[self] then
    ffi.gc(at_the_end[self], nil)
    at_the_end[self] = nil
  end
end

-- ---- The optimizer -------------------------------------------------------------------------

function M.set_optimizer(self, o)
  local dump, version = o:dump(), ffi.new('int64_t[1]')
  raise.check(C.neap_store_send_optimizer(self._handle, dump, #dump, version))
  return tonumber(version[0])
end

function M.rollback_optimizer(self)
  local version = ffi.new('int64_t[1]')
  raise.check(C.neap_store_rollback_optimizer(self._handle, version))
  return tonumber(version[0])
end

function M.set_updater()
  raise.raise('set_updater: a dist store updates on its servers, where no function of this ' ..
    'process can run: write the update as a script and send that, ' ..
    "kv:set_optimizer(neap.optim.load('my_rule.lua'))")
end

--- The servers' optimizer as an object of this process, with the settings that it has there, and
-- its version; nil without one.
function M.optimizer(self)
  local dump, size = ffi.new('const char *[1]'), ffi.new('size_t[1]')
  local version = ffi.new('int64_t[1]')
  raise.check(C.neap_store_get_optimizer(self._handle, dump, size, version))
  local text = ffi.string(dump[0], size[0])
  if text == '' then return nil end
  return require('neap.optim').undump(text), tonumber(version[0])
end

function M.set(self, settings, where)
  if settings.lr_scheduler ~= nil then
    raise.raise('%s: a schedule goes to the servers with its optimizer: set_optimizer', where)
  end
  local ok, text = pcall(pack.encode, settings)
  if not ok then
    raise.raise('%s: settings are numbers, booleans, strings and tables of these', where)
  end
  raise.check(C.neap_store_send_settings(self._handle, text, #text))
end

local function need_optimizer(self, where)
  return M.optimizer(self) or
    raise.raise('%s: the servers have no optimizer; set_optimizer sends one', where)
end

--- The optimizer with the states that all servers have.
function M.with_states(self, where)
  local o = need_optimizer(self, where)
  local out = ffi.new('neap_optimizer *[1]')
  raise.check(C.neap_store_fetch_states(self._handle, out))
  o:adopt(out[0])
  return o
end

function M.load_states(self, path)
  local o = M.optimizer(self)
  if o then o:attach(context.handle(), o) end
  o = require('neap.kv_states').load(self, path, o, function(new)
    M.set_optimizer(self, new)
    new:attach(context.handle(), new)
  end)
  raise.check(C.neap_store_send_states(self._handle, o._handle))
end

-- ---- Commands ------------------------------------------------------------------------------

function M.command(self, head, body)
  local n = self.num_servers
  local answers, sizes = ffi.new('const char *[?]', n), ffi.new('size_t[?]', n)
  raise.check(C.neap_store_command(self._handle, head, body, #body, answers, sizes))
  local list = {}
  for i = 1, n do list[i] = ffi.string(answers[i - 1], sizes[i - 1]) end
  return list
end

return M
