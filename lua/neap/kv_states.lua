-- SPDX-License-Identifier: MIT
--- Optimizer states of a store: to a file, from a file, and from one optimizer to the next.
--
-- A file is .safetensors, whatever its name, so that other tools read it: one tensor named
-- '<key>/<state>' for each state of each key, and in the metadata
--
--   format       'neap optimizer states 1'
--   name, hash   of the script
--   num_update   the optimizer's number of updates
--   counts       '<key>=<number of updates>', separated by spaces
--   settings     for people to read
--   optimizer    with dump_optimizer: all that makes the optimizer, as o:dump() gives it
--
-- A key that is a number is written #7; in one that is a text, every byte but letters, digits
-- and . _ - : stands as %XX, so that names are unambiguous, printable and valid JSON.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local context = require 'neap.context'
local keys_of = require 'neap.kv_keys'
local nd = require 'neap.nd'
local optim = require 'neap.optim'
local raise = require 'neap.raise'

local M = {}

local FORMAT = 'neap optimizer states 1'

-- ---- Saving --------------------------------------------------------------------------------

local function readable_settings(o)
  local lines = {}
  for name, value in pairs(o:settings()) do
    lines[#lines + 1] = ('%s=%s'):format(name,
      type(value) == 'number' and ('%.17g'):format(value) or tostring(value))
  end
  table.sort(lines)
  return table.concat(lines, '\n')
end

local function metadata(o, keys, dump)
  local counts = {}
  for _, key in ipairs(keys) do
    local count = o:count(key)
    if count > 0 then counts[#counts + 1] = ('%s=%.0f'):format(keys_of.encode(key), count) end
  end
  local meta = {
    'format', FORMAT, 'name', o.name, 'hash', o.hash, 'num_update', ('%.0f'):format(o:count()),
    'counts', table.concat(counts, ' '), 'settings', readable_settings(o),
  }
  if dump then
    meta[#meta + 1], meta[#meta + 2] = 'optimizer', o:dump()
  end
  return meta
end

--- A C array of C strings. The second result keeps them alive.
local function c_texts(texts)
  local pointers = ffi.new('const char *[?]', #texts + 1)
  for i, text in ipairs(texts) do pointers[i - 1] = text end
  pointers[#texts] = nil
  return pointers, texts
end

--- Writes the states of `o` for `keys`. The file appears whole or not at all.
---@param o neap.Optimizer
---@param keys neap.Key[]
---@param path string
---@param dump? boolean
function M.save(o, keys, path, dump)
  local where = 'save_optimizer_states'
  if type(path) ~= 'string' then
    raise.raise('%s: a path is wanted, not %s', where, raise.describe(path))
  end
  if dump ~= nil and type(dump) ~= 'boolean' then
    raise.raise('%s: dump_optimizer is true or false, not %s', where, raise.describe(dump))
  end
  local names, arrays = {}, {}
  for key, name, handle in o:states() do
    arrays[#arrays + 1] = array.adopt(handle, 0) -- the optimizer's memory
    names[#names + 1] = keys_of.encode(key) .. '/' .. keys_of.encode_text(name)
  end
  local handles = ffi.new('neap_array *[?]', #arrays + 1)
  for i, a in ipairs(arrays) do handles[i - 1] = array.handle(a, where) end
  local c_names = c_texts(names)
  local meta = metadata(o, keys, dump)
  local c_meta = c_texts(meta)
  -- The library knows the format by the name's ending: other names get it for a moment.
  local final = path:find('%.safetensors$') and path or path .. '.new.safetensors'
  raise.check(C.neap_file_save(context.handle(), final, #arrays, c_names, handles, c_meta))
  if final ~= path then
    local ok, message = os.rename(final, path)
    if not ok then
      os.remove(final)
      raise.raise('%s: %s', where, message)
    end
  end
end

-- ---- Loading -------------------------------------------------------------------------------

local function bad_file(path, what, ...)
  raise.raise('load_optimizer_states: %s: ' .. what, path, ...)
end

local function open(path)
  local out = ffi.new('neap_file *[1]')
  raise.check(C.neap_file_load(context.handle(), path, out))
  return ffi.gc(out[0], C.neap_file_close)
end

local function meta_of(file, name)
  local text = C.neap_file_meta(file, name)
  return text ~= nil and ffi.string(text) or nil
end

local function read_counts(file, path)
  local counts = {}
  local text = meta_of(file, 'counts') or bad_file(path, 'no counts in its metadata')
  for entry in text:gmatch('%S+') do
    local name, count = entry:match('^(.*)=(%d+)$')
    local key = name and keys_of.decode(name)
    if key == nil then bad_file(path, 'damaged counts: %s', raise.describe(entry)) end
    counts[#counts + 1] = { key = key, count = tonumber(count) }
  end
  local total = tonumber((meta_of(file, 'num_update') or ''):match('^%d+$'))
  return counts, total or bad_file(path, 'no num_update in its metadata')
end

local function read_states(file, path)
  local states = {}
  local out = ffi.new('neap_array *[1]')
  for i = 0, C.neap_file_count(file) - 1 do
    local full = ffi.string(C.neap_file_name(file, i))
    local left, right = full:match('^([^/]*)/([^/]*)$')
    local key, name = left and keys_of.decode(left), right and keys_of.decode_text(right)
    if key == nil or not name then
      bad_file(path, 'tensor %s is not named <key>/<state>', raise.describe(full))
    end
    raise.check(C.neap_file_array(file, i, out))
    states[#states + 1] = { key = key, name = name, value = array.adopt(out[0]) }
  end
  return states
end

--- States have the shape of their key; what the store does not have yet is checked by nobody.
local function check_states(states, store, path)
  for _, state in ipairs(states) do
    local like = store._like[state.key]
    local shape = state.value.shape
    if like and state.name ~= 'scalars' and
      table.concat(shape, ',') ~= table.concat(like.shape, ',') then
      bad_file(path, '%s: state %s has shape (%s) where (%s) is stored',
        keys_of.text(state.key), state.name, table.concat(shape, ','),
        table.concat(like.shape, ','))
    end
  end
end

--- Puts what `path` holds into the store's optimizer, or sets the one that is in the file. All
-- is read and checked before anything is changed. States of keys that the file does not name
-- stay.
---@param store neap.Store
---@param path string
---@param o neap.Optimizer|nil the store's, attached
---@param install fun(o: neap.Optimizer) makes it the store's optimizer, and attaches it
---@return neap.Optimizer the one that has the states now
function M.load(store, path, o, install)
  if type(path) ~= 'string' then
    raise.raise('load_optimizer_states: a path is wanted, not %s', raise.describe(path))
  end
  local file = open(path)
  if meta_of(file, 'format') ~= FORMAT then
    bad_file(path, 'not a file of save_optimizer_states')
  end
  local name = meta_of(file, 'name') or '?'
  local dump = meta_of(file, 'optimizer')
  if not o and not dump then
    bad_file(path, 'holds states of %s without the optimizer itself (dump_optimizer): ' ..
      'call set_optimizer first', raise.describe(name))
  end
  if not dump and o.name ~= name then
    bad_file(path, 'holds states of %s, and the store\'s optimizer is %s', raise.describe(name),
      raise.describe(o.name))
  end
  local counts, total = read_counts(file, path)
  local states = read_states(file, path)
  check_states(states, store, path)
  if dump then
    o = optim.undump(dump)
    install(o)
  end
  for _, state in ipairs(states) do o:restore(state.key, state.name, state.value) end
  for _, entry in ipairs(counts) do o:set_count(entry.key, entry.count) end
  o:set_count(nil, total)
  return o
end

-- ---- From one optimizer to the next --------------------------------------------------------

--- States of an optimizer: key -> name -> array, the optimizer's own.
local function states_by_key(o)
  local by_key = {}
  for key, name, handle in o:states() do
    by_key[key] = by_key[key] or {}
    by_key[key][name] = array.adopt(handle, 0)
  end
  return by_key
end

--- The states of one key that both optimizers have: the same arrays. weight32 is the master of a
-- 16-bit weight; scalars are one array.
local function common(old, new, had)
  local has = {}
  for _, name in ipairs(new.state_names) do has[name] = had[name] end
  if old:get('multi_precision') and new:get('multi_precision') then has.weight32 = had.weight32 end
  if table.concat(old.scalar_names, ' ') == table.concat(new.scalar_names, ' ') then
    has.scalars = had.scalars
  end
  return has
end

--- A state as it is before a key's first update, a new array.
local function first_state(o, name, weight, dtype)
  local first = o:first_value(name)
  if first == 'weight' then return weight:astype(dtype) end
  return nd.full(weight.shape, first, { dtype = dtype, ctx = weight.ctx })
end

--- The scalars of both as a migration's program has them, the new ones first: as they are in
-- `scalars`, or as they begin.
local function join_scalars(old, new, had, has)
  local values, at = {}, 0
  for _, o in ipairs { new, old } do
    for _, name in ipairs(o.scalar_names) do values[#values + 1] = o:first_value(name) end
  end
  if #values == 0 then return nil end
  local joined = nd.array(values, { dtype = 'float64' })
  for _, part in ipairs { { new, has.scalars }, { old, had.scalars } } do
    local count = #part[1].scalar_names
    if part[2] and part[2].size == count then part[2]:copyto(joined:slice(at, at + count)) end
    at = at + count
  end
  return joined
end

--- Runs the script's migrate for one key. `had`: states of the old optimizer; `has`: what the new
-- one gets, changed and added to.
local function run_migration(migration, old, new, weight, had, has)
  if weight.stype ~= 'default' then weight = weight:tostype('default') end
  local dtype = weight.dtype == 'float64' and 'float64' or 'float32' -- of states
  local states = {}
  for i, full in ipairs(migration.states) do
    local whose, name = full:match('^(%a+)%.(.*)$')
    local value
    if whose == 'old' then
      value = had[name] or first_state(old, name, weight, dtype)
    else
      value = has[name] and has[name]:copy() or first_state(new, name, weight, dtype)
      has[name] = value
    end
    states[i] = value
  end
  local handles = ffi.new('neap_array *[?]', #states + 1)
  for i, value in ipairs(states) do handles[i - 1] = array.handle(value, 'migrate') end
  local scalars = join_scalars(old, new, had, has)
  -- A program writes a weight and reads a gradient; this one needs neither to change or be.
  local copy = weight:copy()
  raise.check(C.neap_program_run(migration.program, array.handle(copy, 'migrate'),
    array.handle(weight, 'migrate'), handles, scalars and array.handle(scalars, 'migrate') or nil,
    nil, 0))
  local own = #new.scalar_names
  if own > 0 then has.scalars = scalars:slice(0, own):copy() end
end

--- Gives `new` what it has in common with `old`: states of the same name (the shape is the
-- key's for both), what `migration` (new:migration(old)) makes of the others, and the number of
-- updates of the whole. A key's own count goes on where it has all of the new script's states;
-- elsewhere it starts again, as the formulas that use t want it beside states that are fresh.
---@param old neap.Optimizer
---@param new neap.Optimizer
---@param store neap.Store
---@param migration table|nil
function M.carry_over(old, new, store, migration)
  local states = states_by_key(old)
  for _, key in ipairs(store:keys()) do
    local count, had = old:count(key), states[key] or {}
    if count > 0 or next(had) then
      local has = common(old, new, had)
      if migration then
        run_migration(migration, old, new, store._kind.value(store, key), had, has)
      end
      for name, value in pairs(has) do new:restore(key, name, value) end
      local whole = true
      for _, name in ipairs(new.state_names) do whole = whole and has[name] ~= nil end
      if whole and count > 0 then new:set_count(key, count) end
    end
  end
  new:set_count(nil, math.max(new:count(), old:count())) -- begin_num_update may be ahead
end

return M
