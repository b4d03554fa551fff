-- SPDX-License-Identifier: MIT
--- What a server's Lua state has besides the modules that record scripts: the functions that
-- lua/host/scripts.c calls, and the methods that strings have while a script runs.
--
-- Runs in a state that C made for one script (lua/host/scripts_state.c), never in a program's own.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local limits = require 'neap.host_limits' -- C
local optim = require 'neap.optim'
local pack = require 'neap.pack'
local raise = require 'neap.raise'
local record = require 'neap.record'
local script = require 'neap.script'

local M = {}

-- ---- Strings -------------------------------------------------------------------------------
-- Patterns are left out: some take for ever, in C, where no limit on time reaches.

local find, rep, format = string.find, string.rep, string.format
local LONGEST = 64 * 1024

local methods = { byte = string.byte, char = string.char, len = string.len, sub = string.sub,
  lower = string.lower, upper = string.upper, reverse = string.reverse }

function methods.rep(text, n)
  if type(text) ~= 'string' or type(n) ~= 'number' then
    raise.raise('rep: a number of times is wanted, not %s', raise.describe(n))
  end
  if #text * n > LONGEST then raise.raise('rep: a text of more than %d bytes', LONGEST) end
  return rep(text, n)
end

-- For error texts. LuaJITs of before 2025 write past a buffer for some numbers of many digits.
function methods.format(text, ...)
  if type(text) ~= 'string' or #text > 1000 or find(text, '%%[^%a]*%d%d') then
    raise.raise('format: at most 1000 bytes, widths and precisions of one digit')
  end
  local values = { ... }
  for i = 1, select('#', ...) do
    if type(values[i]) ~= 'number' then values[i] = script.text(values[i]) end
  end
  return format(text, unpack(values, 1, select('#', ...)))
end

local call, last_line = limits(getmetatable(''), methods)
script.confine { call = call, last_line = last_line }

-- ---- What C calls --------------------------------------------------------------------------

local optimizer
local records -- how many there were when the script was last run anew

--- Makes the optimizer of a dump, and puts it at `place`, neap_optimizer **. From then on it is
-- the caller's.
---@param dump string
---@param context lightuserdata neap_context *
---@param place lightuserdata
function M.open(dump, context, place)
  context = ffi.cast('neap_context *', context)
  debug.getregistry()['neap.context'] = { context = context, library = C } -- see context.lua
  optimizer = optim.undump(dump)
  local handle = optimizer:attach(context, M)
  records = record.count()
  local out = ffi.cast('neap_optimizer **', place)
  out[0] = ffi.gc(handle, nil)
end

--- Binds a program for a key. What the script's functions may have kept from the record before
-- is gone: it is run anew.
---@param key neap.Key
---@param stype string
---@param dtype string
---@param shape integer[]
function M.bind(key, stype, dtype, shape)
  if record.count() ~= records then
    optimizer:renew()
    records = record.count()
  end
  optimizer:forget(key) -- the library may have, without telling
  optimizer:bind(key, stype, { shape = shape, dtype = dtype })
end

--- Sets what a text of settings says, or a dump.
---@param text string
function M.set(text)
  local settings = pack.decode(text)
  if type(settings) ~= 'table' then raise.raise('this is no text of settings') end
  if type(settings.settings) == 'table' then
    optimizer:set { lr_mult = settings.lr_mult or {}, wd_mult = settings.wd_mult or {} }
    settings = settings.settings
  end
  optimizer:set(settings)
end

--- What the script is by now.
---@return string name
---@return string hash
---@return string dump with the settings that it has
function M.describe() return optimizer.name, optimizer.hash, optimizer:dump() end

--- Puts the program that makes states of those of the optimizer that is replaced at `place`,
-- neap_program **; nothing where the script has no migrate.
---@param dump string of the replaced one
---@param place lightuserdata
function M.migrate(dump, place)
  local migration = optimizer:migration(optim.undump(dump))
  if not migration then return end
  local out = ffi.cast('neap_program **', place)
  out[0] = ffi.gc(migration.program, nil)
end

return M
