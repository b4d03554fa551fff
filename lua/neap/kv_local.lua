-- SPDX-License-Identifier: MIT
--- What is different in a store of one process: the optimizer is an object here, which the store
-- updates with, or an updater is. kv.lua has checked what it hands over.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local context = require 'neap.context'
local raise = require 'neap.raise'

local M = {}

--- The handle of a new store. There are no options.
---@param name string
---@param opts table
function M.open(self, name, opts)
  local out = ffi.new('neap_store *[1]')
  raise.check(C.neap_store_create(context.handle(), name, out))
  -- The collector closes a forgotten store: its handle is finalized.
  self._handle = ffi.gc(out[0], C.neap_store_close)
  local option = next(opts)
  if option ~= nil then
    self:close()
    raise.raise('kv.create: a %s store has no option %s', name, raise.describe(option))
  end
end

--- Puts `new` (nil for none) in the place of the optimizer and updater that were.
local function exchange(self, new, updater)
  local old = self._optimizer
  if new ~= old or not new then
    local c = nil
    if new then c = new:attach(context.handle(), self) end
    raise.check(C.neap_store_set_optimizer(self._handle, c))
    if old then old:detach() end
  end
  self._optimizer, self._updater = new, updater
end

local function install(self, o)
  exchange(self, o, nil)
  self._highest = self._highest + 1
  self._version = self._highest
end

function M.set_optimizer(self, o)
  local old = self._optimizer
  local swapped = old and old ~= o
  local migration = swapped and o:migration(old) or nil
  local version = self._version
  install(self, o)
  if swapped then
    require('neap.kv_states').carry_over(old, o, self, migration)
    self._before = { optimizer = old, version = version }
  end
  return self._version
end

--- An optimizer keeps its states for as long as the same store attaches it again.
function M.rollback_optimizer(self)
  local before = self._before or raise.raise('rollback_optimizer: there is no optimizer to go ' ..
    'back to: one step back is kept')
  exchange(self, before.optimizer, nil)
  self._version, self._before = before.version, nil
  return self._version
end

--- The stored value of a key itself.
function M.value(self, key)
  local out = ffi.new('neap_array *[1]')
  raise.check(C.neap_store_value(self._handle, self._keys[key], out))
  return (array.adopt(out[0], 0))
end

function M.set_updater(self, f) exchange(self, nil, f) end

function M.optimizer(self) return self._optimizer, self._version end

local function need_optimizer(self, where)
  return self._optimizer or raise.raise('%s: the store has no optimizer; set_optimizer sets one',
    where)
end

function M.set(self, settings, where) need_optimizer(self, where):set(settings) end

M.with_states = need_optimizer

function M.load_states(self, path)
  require('neap.kv_states').load(self, path, self._optimizer, function(o) install(self, o) end)
end

--- Nothing is sent, nobody answers.
function M.command() return {} end

function M.close(self, handle)
  if self._optimizer then self._optimizer:detach() end
  self._optimizer, self._updater, self._before = nil, nil, nil
  C.neap_store_close(ffi.gc(handle, nil))
end

return M
