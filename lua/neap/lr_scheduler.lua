-- SPDX-License-Identifier: MIT
--- Learning rates that change by the number of updates.
--
--   local schedule = neap.lr_scheduler.poly { max_update = 1000, base_lr = 0.1 }
--   neap.optim.sgd { lr_scheduler = schedule }
--   schedule(500)                                -- the rate at the 500th update
--   neap.lr_scheduler.load('mine.lua', { ... })  -- a path, or a script's text
--
-- factor, multi_factor, poly and cosine are scripts in lua/optim/schedules/. Every schedule
-- has, without naming them, the settings base_lr 0.01 (the optimizer's learning_rate, if that is
-- given, comes first), warmup_steps 0, warmup_begin_lr 0 and warmup_mode 'linear' or 'constant':
-- before update number warmup_steps the rate goes from warmup_begin_lr towards base_lr, or is
-- warmup_begin_lr.
--
-- Recorded to a program, a schedule costs an update no Lua. A call computes the same formula
-- here, on plain numbers.

local raise = require 'neap.raise'
local record = require 'neap.record'
local script = require 'neap.script'

local M = {}

local BASE = { base_lr = 0.01, warmup_steps = 0, warmup_begin_lr = 0, warmup_mode = 'linear' }

local f = record.functions()

--- rate(t, p) of the script, with the warm-up before it.
local function with_warmup(parsed, values)
  if values.warmup_steps == 0 then return parsed.call end
  return function(t, p)
    local warm = p.warmup_begin_lr
    if p.warmup_mode == 'linear' then
      warm = warm + (p.base_lr - p.warmup_begin_lr) * t / p.warmup_steps
    end
    return f.where(f.lt(t, p.warmup_steps), warm, parsed.call(t, p))
  end
end

---@class neap.Schedule
---@field name string
---@field source string
---@field hash string
local Schedule = {}
Schedule.__index = Schedule

local function names_of(values)
  local names = {}
  for name in pairs(values) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ', ')
end

local function check_base(name, values)
  if values.warmup_mode ~= 'linear' and values.warmup_mode ~= 'constant' then
    raise.raise("%s: warmup_mode is 'linear' or 'constant', not %s", name,
      raise.describe(values.warmup_mode))
  end
  for _, setting in ipairs { 'base_lr', 'warmup_begin_lr', 'warmup_steps' } do
    if type(values[setting]) ~= 'number' then
      raise.raise('%s: %s is a number, not %s', name, setting, raise.describe(values[setting]))
    end
  end
  if values.warmup_steps < 0 or values.warmup_steps % 1 ~= 0 then
    raise.raise('%s: warmup_steps is a number of updates, not %s', name, values.warmup_steps)
  end
end

--- Settings as a script that is called on plain numbers sees them.
local function plain(values)
  return setmetatable({}, {
    __index = function(_, setting)
      local value = values[setting]
      if value == nil then
        raise.raise('there is no setting %s; there are %s', raise.describe(setting),
          names_of(values))
      end
      return value
    end,
  })
end

local function make(parsed, settings)
  if settings ~= nil and type(settings) ~= 'table' then
    raise.raise('lr_scheduler.%s: a table of settings is wanted, not %s', parsed.name,
      raise.describe(settings))
  end
  local values = {}
  for name, value in pairs(BASE) do values[name] = value end
  for name, value in pairs(parsed.defaults) do values[name] = value end
  for name, value in pairs(settings or {}) do
    if values[name] == nil then
      raise.raise('lr_scheduler.%s: there is no setting %s; there are %s', parsed.name,
        raise.describe(name), names_of(values))
    end
    if not script.is_setting(value) then
      raise.raise('lr_scheduler.%s: %s cannot be %s', parsed.name, name, raise.describe(value))
    end
    values[name] = value
  end
  check_base(parsed.name, values)
  local p = plain(values)
  if parsed.check then parsed.check(p) end
  local call = with_warmup(parsed, values)
  return setmetatable({
    name = parsed.name,
    source = parsed.source,
    hash = parsed.hash,
    _values = values,
    _plain = p,
    _script = { name = parsed.name, line = parsed.line, call = call,
      last_line = parsed.last_line },
    -- Told apart from the default: an optimizer's own learning_rate gives way to it.
    _base_given = settings ~= nil and settings.base_lr ~= nil,
  }, Schedule)
end

--- The rate at update number `t`, counted from 1.
---@param t integer
---@return number
function Schedule:__call(t)
  if type(t) ~= 'number' then
    raise.raise('lr_scheduler.%s: the number of an update is wanted, not %s', self.name,
      raise.describe(t))
  end
  return self._script.call(t, self._plain)
end

--- A copy of all settings.
---@return table<string, any>
function Schedule:settings()
  local copy = {}
  for name, value in pairs(self._values) do copy[name] = value end
  return copy
end

--- The schedule as a program.
---@return string bytes
function Schedule:record()
  return record.rate(self._script, self._values)
end

function Schedule:__tostring() return ('neap.Schedule %s'):format(self.name) end

---@param x any
---@return boolean
function M.is(x) return getmetatable(x) == Schedule end

--- A schedule by name.
---@param name string
---@param settings? table
---@return neap.Schedule
function M.create(name, settings)
  if type(name) ~= 'string' then
    raise.raise('lr_scheduler.create: a name is wanted, not %s', raise.describe(name))
  end
  return make(script.by_name('schedule', name, 'schedules/', 'rate'), settings)
end

--- A schedule from a file, or from a script's text.
---@param path_or_source string
---@param settings? table
---@return neap.Schedule
function M.load(path_or_source, settings)
  return make(script.load(path_or_source, 'rate'), settings)
end

return setmetatable(M, {
  __index = function(self, name)
    local function create(settings) return M.create(name, settings) end
    if type(name) ~= 'string' or not script.find('schedules/' .. name) then
      M.create(name) -- raises
    end
    rawset(self, name, create)
    return create
  end,
})
