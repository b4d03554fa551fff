-- SPDX-License-Identifier: MIT
--- Neap: a parameter store. `local neap = require 'neap'`
--
--   neap.nd                    arrays
--   neap.cpu(i) neap.gpu(i)    devices      neap.num_gpus()
--   neap.seed(n)               restarts the random numbers
--   neap.waitall()             waits for all queued work; raises the first failure
--   neap.counters()            what the engine is doing, as numbers
--   neap.kv                    stores
--   neap.optim                 optimizers   neap.lr_scheduler
--   neap.server                servers and schedulers of a job, within this process
--   neap.scheduler
--
-- The last five are loaded when they are first used. Environment: NEAP_ENGINE (threaded or
-- naive), NEAP_NUM_THREADS, NEAP_LIBRARY (the library's file); job.lua has those of jobs.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local context = require 'neap.context'

---@class neap
---@field nd neap.nd arrays
---@field kv table stores
---@field optim table optimizers
---@field lr_scheduler table schedules
---@field server table servers of a job
---@field scheduler table schedulers of a job
---@field version string of the library, '0.1.0'
local M = {
  cpu = context.cpu,
  gpu = context.gpu,
  num_gpus = context.num_gpus,
  seed = context.seed,
  waitall = context.waitall,
  counters = context.counters,
  nd = require 'neap.nd',
  version = ffi.string(C.neap_version()),
}

local LATER = { kv = true, optim = true, lr_scheduler = true, server = true, scheduler = true }

return setmetatable(M, {
  __index = function(self, name)
    if not LATER[name] then return nil end
    local module = require('neap.' .. name)
    rawset(self, name, module)
    return module
  end,
})
