-- SPDX-License-Identifier: MIT
--- Optimizers: a script, its settings, and what stores do with both.
--
--   local optim = require 'neap.optim'
--   optim.sgd { learning_rate = 0.1, momentum = 0.9 }     -- found by name in lua/optim/
--   optim.create('sgd', { learning_rate = 0.1 })
--   optim.load('my_rule.lua', { ... })                    -- a path, or a script's text
--
-- A script's update(w, g, s, p) computes with + - * / ^, unary minus, and
--
--   abs sign sqrt exp log tanh sigmoid sin cos floor   min(a, b) max(a, b)
--   clip(x, bound) clip(x, lo, hi)   where(c, a, b)    lt le gt ge eq: 1 or 0
--   sum mean norm: over the key (in a lazy update, the rows present)   row_sum row_mean
--   uniform() normal()       is_zero(p.x): a plain boolean; see record.lua
--
-- An optimizer serves one store at a time. What the store does with it:
--
--   o:attach(context, owner)   -> neap_optimizer *: the same one every time. Raises when another
--                              owner (any Lua object) holds it; o:detach() lets go.
--   o:bind(key, stype, like)   before each push: records the script for this key (a Lua string or
--                              number) and storage type of gradient ('default', 'row_sparse')
--                              unless that is done. `like`: the stored value, or anything else
--                              with fields shape and dtype. Costs two table look-ups when there
--                              is nothing to do; raises what the recorder has to say.
--   o:forget(key)              after the key was deleted
--   o:set { name = value }     what kv:set_hyper and kv:set_learning_rate do; from the next push
--                              on. Numbers cost nothing; others record anew at the next bind.
--   o:get(name)                the value of a setting
--   o:settings()               a copy of all settings: name -> number, boolean or string
--   o.name, o.source, o.hash   the script's name, its text, 16 hexadecimal digits of the text
--   o.state_names              the names of the states it declares, a sorted list
--   o.scalar_names             those of its scalars, in the order of their array
--   o:migration(old)           how states of `old` become its own, by the script's migrate: nil
--                              without one, or if both have the same script; raises what the
--                              recorder has to say
--   o:dump()                   -> text: source, settings, multipliers and schedule, for files
--   optim.undump(text)         -> an optimizer as it was, without states
--   o:states()                 iterates: key, name, array cdata (neap_array *, the caller's)
--   o:restore(key, name, array)   o:count(key | nil)   o:set_count(key | nil, n)
--   optim.recordings()         how often a script was recorded so far, in this process

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local keys_of = require 'neap.kv_keys'
local lr_scheduler = require 'neap.lr_scheduler'
local pack = require 'neap.pack'
local raise = require 'neap.raise'
local record = require 'neap.record'
local script = require 'neap.script'

local M = {}

-- What every script has without naming it.
local BASE = {
  learning_rate = 0.01,
  wd = 0,
  rescale_grad = 1,
  clip_gradient = false,
  lazy_update = true,
  multi_precision = false,
  begin_num_update = 0,
}

-- What an optimizer is made with that is no setting.
local APART = { lr_scheduler = true, lr_mult = true, wd_mult = true }

local STYPES = { default = C.NEAP_DENSE, row_sparse = C.NEAP_ROW_SPARSE }
local SMALL_FLOATS = { float16 = true, bfloat16 = true }

---@class neap.Optimizer
---@field name string of the script
---@field source string the script's text
---@field hash string 16 hexadecimal digits of the text
---@field state_names string[] what the script declares
---@field scalar_names string[] likewise
local Optimizer = {}
Optimizer.__index = Optimizer

function Optimizer:__tostring() return ('neap.Optimizer %s'):format(self.name) end

-- ---- Settings ------------------------------------------------------------------------------

local function names_of(self)
  local names = {}
  for name in pairs(self._values) do names[#names + 1] = name end
  for name in pairs(APART) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ', ')
end

--- What is wrong with a setting, as text that follows its name; nil if nothing is.
local function wrong(self, name, value)
  local default = self._defaults[name]
  if name == 'clip_gradient' then
    local bound = type(value) == 'number' and value > 0
    if value ~= false and not bound then
      return 'is false or above 0'
    end
  elseif name == 'begin_num_update' then
    if type(value) ~= 'number' or value % 1 ~= 0 or value < 0 or value > 2 ^ 53 then
      return 'is a number of updates'
    end
  elseif not script.is_setting(value) then
    return 'is a number, boolean, string or list of numbers'
  elseif default ~= false and type(value) ~= type(default) then
    return ('is a %s'):format(type(default)) -- false may become anything
  end
  return nil
end

local function check_setting(self, name, value)
  if self._defaults[name] == nil then
    raise.raise('%s: there is no setting %s; there are %s', self.name, raise.describe(name),
      names_of(self))
  end
  if name == 'multi_precision' and self._handle and value ~= self._values[name] then
    -- A master that has rested would bring old weights back.
    raise.raise('%s: multi_precision cannot change once a store has it: set_optimizer with a ' ..
      'new one does it', self.name)
  end
  local message = wrong(self, name, value)
  if message then
    raise.raise('%s: %s %s, not %s', self.name, name, message, raise.describe(value))
  end
end

local function check_multipliers(self, name, value)
  if type(value) ~= 'table' then
    raise.raise('%s: %s is a table, key -> number, not %s', self.name, name,
      raise.describe(value))
  end
  for key, number in pairs(value) do
    if type(number) ~= 'number' or number ~= number then
      raise.raise('%s: %s[%s] is a number, not %s', self.name, name, raise.describe(key),
        raise.describe(number))
    end
    keys_of.new(key, name) -- raises if it is no key
  end
end

local function check(self, settings)
  if type(settings) ~= 'table' then
    raise.raise('%s: a table of settings is wanted, not %s', self.name, raise.describe(settings))
  end
  for name, value in pairs(settings) do
    if name == 'lr_scheduler' then
      if value ~= false and not lr_scheduler.is(value) then
        raise.raise('%s: lr_scheduler is one of neap.lr_scheduler or false, not %s', self.name,
          raise.describe(value))
      end
    elseif APART[name] then
      check_multipliers(self, name, value)
    else
      check_setting(self, name, value)
    end
  end
end

--- Programs that were recorded so far hold no longer.
local function outdate(self)
  self._version = self._version + 1
  self._records = {}
  self._programs = {}
  self._zero = {}
end

local function send_setting(self, name, value)
  if self._handle then raise.check(C.neap_optimizer_set(self._handle, name, value)) end
end

local function set_one(self, name, value)
  local old = self._values[name]
  if old == value then return end
  self._values[name] = value
  if type(value) == 'number' then send_setting(self, name, value) end
  if type(value) ~= 'number' or type(old) ~= 'number' then
    outdate(self)
  elseif self._zero[name] ~= nil and self._zero[name] ~= (value == 0) then
    outdate(self) -- the script asked whether this is 0
  end
end

local function send_multiplier(self, key)
  local lr, wd = self._lr_mult[key], self._wd_mult[key]
  raise.check(C.neap_optimizer_multiplier(self._handle, keys_of.new(key, 'bind'), lr or 1,
    wd or 1))
end

local function copy_map(map)
  local copy = {}
  for key, value in pairs(map or {}) do copy[keys_of.plain(key)] = value end
  return copy
end

--- The keys that have been bound, once each.
local function bound_keys(self)
  local keys = {}
  for _, bound in pairs(self._bound) do
    for key in pairs(bound) do keys[key] = true end
  end
  return keys
end

local function set_multipliers(self, name, map)
  local field = '_' .. name
  self[field] = copy_map(map)
  if not self._handle then return end
  for key in pairs(bound_keys(self)) do send_multiplier(self, key) end
end

local new_program = ffi.typeof('neap_program *[1]')

local function compile(context, bytes)
  local out = new_program()
  raise.check(C.neap_program_create(context, bytes, #bytes, out))
  return ffi.gc(out[0], C.neap_program_close)
end

local function send_schedule(self)
  if not self._handle then return end
  local schedule = self._schedule
  if not schedule then
    raise.check(C.neap_optimizer_schedule(self._handle, nil))
    return
  end
  for name, value in pairs(schedule:settings()) do
    if type(value) == 'number' then send_setting(self, 'schedule.' .. name, value) end
  end
  local program = compile(self._context, schedule:record())
  raise.check(C.neap_optimizer_schedule(self._handle, program))
end

--- Changes settings, multipliers or the schedule: all of them, or none if one is wrong. Acts
-- from the next push on.
---@param settings table<string, any>
function Optimizer:set(settings)
  check(self, settings)
  for name, value in pairs(settings) do
    if name == 'lr_scheduler' then
      self._schedule = value or nil
      send_schedule(self)
    elseif APART[name] then
      set_multipliers(self, name, value)
    else
      set_one(self, name, value)
    end
  end
end

--- The value of a setting.
---@param name string
---@return any
function Optimizer:get(name)
  local value = self._values[name]
  if value == nil then
    raise.raise('%s: there is no setting %s; there are %s', self.name, raise.describe(name),
      names_of(self))
  end
  return value
end

--- A copy of all settings.
---@return table<string, any>
function Optimizer:settings()
  local copy = {}
  for name, value in pairs(self._values) do copy[name] = value end
  return copy
end

-- ---- Serving a store -----------------------------------------------------------------------

local new_optimizer = ffi.typeof('neap_optimizer *[1]')

local function make_handle(self, context)
  local out = new_optimizer()
  raise.check(C.neap_optimizer_create(context, self.name, out))
  self._handle = ffi.gc(out[0], C.neap_optimizer_close)
  self._context = context
  for name, value in pairs(self._values) do
    if type(value) == 'number' then send_setting(self, name, value) end
  end
  send_schedule(self)
end

--- The library's optimizer, made at the first call. States stay for as long as the same owner
-- attaches again; for another one everything begins anew.
---@param context ffi.cdata* neap_context *
---@param owner any who updates with it
---@return ffi.cdata* neap_optimizer *
function Optimizer:attach(context, owner)
  local held = self._owner.now
  if held ~= nil and held ~= owner then
    raise.raise('this optimizer (%s) updates another store; make one for each', self.name)
  end
  if not self._handle or self._owner.last ~= owner then
    self._bound = { default = {}, row_sparse = {} }
    outdate(self)
    make_handle(self, context)
  end
  self._owner.now, self._owner.last = owner, owner
  return self._handle
end

--- Takes a library's optimizer that was made elsewhere, with its states, for its own.
---@param handle ffi.cdata* neap_optimizer *
function Optimizer:adopt(handle)
  self._handle = ffi.gc(handle, C.neap_optimizer_close)
end

--- Lets go of the owner, who may attach again.
function Optimizer:detach()
  self._owner.now = nil
end

local function need_handle(self, where)
  return self._handle or raise.raise('%s: this optimizer (%s) updates no store yet', where,
    self.name)
end

local function keep_zero(self, zero)
  for name, answer in pairs(zero) do self._zero[name] = answer end
end

--- The record for a key: one that was made before, if all that the script read is the same.
local function record_for(self, key, stype, like)
  local master = self._values.multi_precision and SMALL_FLOATS[like.dtype] or false
  local base = stype .. (master and ' master' or '')
  local by_shape = ' shape ' .. table.concat(like.shape, ',')
  local by_key = (' key %s %s'):format(type(key), tostring(key))
  local records = self._records
  local found = records[base] or records[base .. by_shape] or records[base .. by_key] or
    records[base .. by_shape .. by_key]
  if found then return found end
  local made = record.update(self._script, {
    values = self._values,
    key = key,
    shape = like.shape,
    stype = stype,
    lazy = self._values.lazy_update,
    master = master,
  })
  keep_zero(self, made.zero)
  -- A script that asks for the key does so to tell a few kinds of keys apart.
  local same = self._programs[made.bytes] or { program = compile(self._context, made.bytes) }
  self._programs[made.bytes] = same
  records[base .. (made.used.shape and by_shape or '') .. (made.used.key and by_key or '')] = same
  return same
end

local function bind_now(self, key, stype, like)
  local handle = need_handle(self, 'bind')
  local code = STYPES[stype] or raise.raise('bind: no storage type %s', raise.describe(stype))
  local c_key = keys_of.new(key, 'bind')
  local made = record_for(self, key, stype, like)
  raise.check(C.neap_optimizer_bind(handle, c_key, code, made.program))
  if self._lr_mult[key] or self._wd_mult[key] then send_multiplier(self, key) end
  self._bound[stype][key] = self._version
end

--- Sees to it that pushes of gradients of `stype` to `key` find a program.
---@param key neap.Key
---@param stype string
---@param like { shape: integer[], dtype: string } the stored value
function Optimizer:bind(key, stype, like)
  local bound = self._bound[stype]
  if bound and bound[key] == self._version then return end
  bind_now(self, key, stype, like)
end

--- Runs the script anew: what its functions keep from one record to the next is gone.
function Optimizer:renew()
  self._script = script.parse(self.source, self.name, 'update')
end

--- After a key was deleted: what comes by its name is bound anew.
---@param key neap.Key
function Optimizer:forget(key)
  for _, bound in pairs(self._bound) do bound[key] = nil end
end

-- ---- States --------------------------------------------------------------------------------

local new_array = ffi.typeof('neap_array *[1]')
local new_name = ffi.typeof('const char *[1]')
local new_key = ffi.typeof('neap_key[1]')
local new_count = ffi.typeof('int64_t[1]')

--- Iterates over all states of all keys: key, name, array (neap_array *, the caller's to close).
-- A key's scalars are one entry, named 'scalars'.
function Optimizer:states()
  local index = -1
  return function()
    if not self._handle then return nil end
    index = index + 1
    local key, name, out = new_key(), new_name(), new_array()
    if C.neap_optimizer_state(self._handle, index, key, name, out) ~= 0 then return nil end
    return keys_of.from_c(key[0]), ffi.string(name[0]), out[0]
  end
end

--- Puts a state in place; it is copied.
---@param key neap.Key
---@param name string
---@param value neap.Array
function Optimizer:restore(key, name, value)
  local handle = need_handle(self, 'restore')
  raise.check(C.neap_optimizer_restore(handle, keys_of.new(key, 'restore'), name,
    array.handle(value, 'restore')))
end

--- The number of updates: of a key, or of the whole.
---@param key? neap.Key
---@return integer
function Optimizer:count(key)
  if not self._handle then return self._values.begin_num_update end
  local out = new_count()
  local c_key = key ~= nil and keys_of.new(key, 'count') or nil
  raise.check(C.neap_optimizer_count(self._handle, c_key, out))
  return tonumber(out[0])
end

---@param key neap.Key|nil
---@param count integer
function Optimizer:set_count(key, count)
  local handle = need_handle(self, 'set_count')
  local c_key = key ~= nil and keys_of.new(key, 'set_count') or nil
  raise.check(C.neap_optimizer_set_count(handle, c_key, count))
end

--- How states of `old` become this optimizer's, where its script has migrate(old, new, w).
---@param old neap.Optimizer; one of both is attached
---@return { program: ffi.cdata*, states: string[] }|nil
function Optimizer:migration(old)
  if not self._script.migrate or old.hash == self.hash then return nil end
  local bytes, states = record.migrate(self._script, old._script)
  return { program = compile(self._context or old._context, bytes), states = states }
end

--- What a state or scalar begins with: a number, or 'weight'.
---@param name string
---@return number|'weight'|nil
function Optimizer:first_value(name)
  local first = self._script.states[name]
  if first ~= nil then return first end
  return self._script.scalars[name]
end

-- ---- Making --------------------------------------------------------------------------------

local function make(parsed, settings)
  local defaults = {}
  for name, value in pairs(BASE) do defaults[name] = value end
  for name, value in pairs(parsed.defaults) do defaults[name] = value end
  local values, states, scalars = {}, {}, {}
  for name, value in pairs(defaults) do values[name] = value end
  for name in pairs(parsed.states) do states[#states + 1] = name end
  table.sort(states)
  for name in pairs(parsed.scalars) do scalars[#scalars + 1] = name end
  table.sort(scalars)
  local self = setmetatable({
    name = parsed.name,
    source = parsed.source,
    hash = parsed.hash,
    state_names = states,
    scalar_names = scalars,
    _script = parsed,
    _defaults = defaults,
    _values = values,
    _schedule = nil,
    _lr_mult = {}, _wd_mult = {},
    _owner = setmetatable({}, { __mode = 'v' }), -- a forgotten store owns nothing
    _version = 0,
    _records = {}, -- by what they were made for
    _programs = {}, -- the same, by their bytes
    _zero = {},    -- what the scripts of these records asked to be 0, or not
    _bound = { default = {}, row_sparse = {} }, -- version by key
  }, Optimizer)
  if settings == nil then return self end
  self:set(settings)
  local schedule = settings.lr_scheduler
  if schedule and settings.learning_rate == nil then
    values.learning_rate = schedule:settings().base_lr
  end
  return self
end

--- An optimizer by name.
---@param name string a script of lua/optim/
---@param settings? table<string, any> its settings, lr_scheduler, lr_mult, wd_mult
---@return neap.Optimizer
function M.create(name, settings)
  if type(name) ~= 'string' then
    raise.raise('optim.create: a name is wanted, not %s', raise.describe(name))
  end
  return make(script.by_name('optimizer', name, '', 'update'), settings)
end

--- An optimizer from a file, or from a script's text.
---@param path_or_source string
---@param settings? table<string, any>
---@return neap.Optimizer
function M.load(path_or_source, settings)
  return make(script.load(path_or_source, 'update'), settings)
end

--- How often a script was recorded so far, in this process.
---@return integer
function M.recordings() return record.count() end

-- ---- As text -------------------------------------------------------------------------------

--- All that makes the optimizer but its states, as text.
---@return string
function Optimizer:dump()
  local schedule = self._schedule
  return pack.encode {
    format = 'neap optimizer 1',
    name = self.name,
    source = self.source,
    settings = self._values,
    lr_mult = self._lr_mult,
    wd_mult = self._wd_mult,
    schedule = schedule and { source = schedule.source, settings = schedule:settings() } or false,
  }
end

--- The optimizer that a text of dump() describes. Its script is checked as any other.
---@param text string
---@return neap.Optimizer
function M.undump(text)
  local dump = type(text) == 'string' and pack.decode(text)
  if type(dump) ~= 'table' or dump.format ~= 'neap optimizer 1' or type(dump.source) ~= 'string' or
    type(dump.settings) ~= 'table' or (dump.schedule and type(dump.schedule) ~= 'table') then
    raise.raise('this is no dump of an optimizer')
  end
  local self = make(script.parse(dump.source, 'script', 'update'), dump.settings)
  self:set { lr_mult = dump.lr_mult or {}, wd_mult = dump.wd_mult or {} }
  if dump.schedule then
    local source = dump.schedule.source
    if type(source) ~= 'string' then raise.raise('this is no dump of an optimizer') end
    self:set { lr_scheduler = lr_scheduler.load(source, dump.schedule.settings) }
  end
  return self
end

return setmetatable(M, {
  __index = function(self, name)
    local function create(settings) return M.create(name, settings) end
    if type(name) ~= 'string' or not script.find(name) then M.create(name) end -- raises
    rawset(self, name, create)
    return create
  end,
})
