-- SPDX-License-Identifier: MIT
--- Stores: named arrays that are pushed to, summed up, updated and pulled.
--
--   local kv = neap.kv.create('local')
--   kv:init('w', nd.ones({2, 3}))
--   kv:push('w', { gradient_on_device_0, gradient_on_device_1 })
--   kv:pull('w', out)
--
-- The library checks keys, shapes, dtypes and storage types; this file checks that values
-- are what can be handed to it. Everything but init of one key, barrier and the saving and
-- loading of states is queued and returns at once.
--
-- push and pull of one key and one array are what programs do most: they go straight to the
-- library, without allocating, and compile.
--
-- All stores are alike here; what differs is in kv_local.lua and kv_dist.lua, functions by the same
-- names: store._kind.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local keys_of = require 'neap.kv_keys'
local nd = require 'neap.nd'
local raise = require 'neap.raise'

local M = {}

local is, handle_of, describe = array.is, array.handle, raise.describe
local key_list, c_keys, c_key = keys_of.list, keys_of.c_keys, keys_of.c_key

---@class neap.Store
---@field type string the name it was created by
---@field rank integer 0 in a store of one process
---@field num_workers integer 1 in a store of one process
---@field num_servers integer 0 in a store of one process
local Store = {}
Store.__index = Store

---@alias neap.Key string|integer
---@alias neap.Value neap.Array|neap.Array[] one array, or one for each device

-- Types whose values are on servers.
local DIST = { dist = true, dist_sync = true, dist_sync_device = true, dist_device_sync = true,
  dist_async = true, dist_async_device = true, dist_device_async = true }

local function closed() raise.raise('this store was closed') end

-- ---- Arguments -----------------------------------------------------------------------------

local OPTIONS = { priority = true, ignore_sparse = true }

local function check_priority(priority, where)
  if type(priority) ~= 'number' or priority % 1 ~= 0 or math.abs(priority) >= 2 ^ 31 then
    raise.raise('%s: a priority is an integer, not %s', where, describe(priority))
  end
  return priority
end

--- The last argument of push, pull and their like.
---@return integer priority
---@return boolean ignore_sparse
local function read_options(opts, where)
  if opts == nil then return 0, true end
  if type(opts) == 'number' then return check_priority(opts, where), true end
  if type(opts) ~= 'table' then
    raise.raise('%s: options are a priority or a table, not %s', where, describe(opts))
  end
  for name in pairs(opts) do
    if not OPTIONS[name] then
      raise.raise('%s: unknown option %s; there are priority, ignore_sparse', where,
        describe(name))
    end
  end
  local ignore = opts.ignore_sparse
  if ignore ~= nil and type(ignore) ~= 'boolean' then
    raise.raise('%s: ignore_sparse is true or false, not %s', where, describe(ignore))
  end
  return check_priority(opts.priority or 0, where), ignore ~= false
end

local function wanted(value, where)
  raise.raise('%s: an array or a list of arrays is wanted, not %s', where, describe(value))
end

--- The value of each key: always a list of lists.
local function value_lists(value, many, num_keys, where, what)
  if not many then return { is(value) and { value } or value or wanted(value, where) } end
  if type(value) ~= 'table' or #value ~= num_keys then
    raise.raise('%s: for a list of %d keys, %s is a list of as many, not %s', where, num_keys, what,
      type(value) == 'table' and ('of %d'):format(#value) or describe(value))
  end
  local lists = {}
  for i = 1, num_keys do lists[i] = is(value[i]) and { value[i] } or value[i] end
  return lists
end

--- Lists of lists of arrays as the library wants them: counts, and handles in one row.
local function flatten(lists, where)
  local total = 0
  for i = 1, #lists do
    if type(lists[i]) ~= 'table' then wanted(lists[i], where) end
    total = total + #lists[i]
  end
  local counts = ffi.new('int[?]', math.max(#lists, 1))
  local handles = ffi.new('neap_array *[?]', math.max(total, 1))
  local n = 0
  for i = 1, #lists do
    local list = lists[i]
    counts[i - 1] = #list
    for k = 1, #list do
      handles[n] = handle_of(list[k], where)
      n = n + 1
    end
  end
  return counts, handles
end

-- ---- init and keys -------------------------------------------------------------------------

--- What is known of a key once it is there: its C key, and shape and dtype for recorders.
local function remember(self, list, lists)
  for i = 1, #list do
    local key, first = list[i], lists[i][1]
    self._keys[key] = keys_of.new(key, 'init')
    self._like[key] = { shape = first.shape, dtype = first.dtype }
  end
end

--- The first array of each key's value.
local function firsts(lists, where)
  local first = ffi.new('neap_array *[?]', math.max(#lists, 1))
  for i = 1, #lists do
    if type(lists[i]) ~= 'table' then wanted(lists[i], where) end
    first[i - 1] = handle_of(lists[i][1], where)
  end
  return first
end

--- Sets the first value of a key, or of each of a list; it is copied. Of a list of arrays for
-- several devices the first counts. Raises if a key is there already.
---@param key neap.Key|neap.Key[]
---@param value neap.Value|neap.Value[]
function Store:init(key, value)
  local handle = self._handle or closed()
  local list, many = key_list(key, 'init')
  local lists = value_lists(value, many, #list, 'init', 'the value')
  local first = firsts(lists, 'init')
  raise.check(C.neap_store_init(handle, #list, c_keys(self._keys, list, 'init'), first))
  remember(self, list, lists)
end

--- init, then pull into `out`.
---@param key neap.Key|neap.Key[]
---@param value neap.Value|neap.Value[]
---@param out neap.Value|neap.Value[]
---@param opts? integer|table priority, or {priority =, ignore_sparse =}
function Store:broadcast(key, value, out, opts)
  local handle = self._handle or closed()
  local priority, ignore = read_options(opts, 'broadcast')
  local list, many = key_list(key, 'broadcast')
  local lists = value_lists(value, many, #list, 'broadcast', 'the value')
  local first = firsts(lists, 'broadcast')
  local counts, outs = flatten(value_lists(out, many, #list, 'broadcast', 'out'), 'broadcast')
  raise.check(C.neap_store_broadcast(handle, #list, c_keys(self._keys, list, 'broadcast'), first,
    counts, outs, priority, ignore))
  remember(self, list, lists)
end

--- Forgets a key, or each of a list: value, optimizer states, count of updates.
---@param key neap.Key|neap.Key[]
function Store:delete(key)
  local handle = self._handle or closed()
  local list = key_list(key, 'delete')
  local keys = c_keys(self._keys, list, 'delete')
  for i = 1, #list do -- all or none; a key that is not there is what the library reports
    if C.neap_store_contains(handle, keys + (i - 1)) == 0 then
      raise.check(C.neap_store_delete(handle, keys + (i - 1)))
    end
  end
  for i = 1, #list do
    raise.check(C.neap_store_delete(handle, keys + (i - 1)))
    if self._optimizer then self._optimizer:forget(list[i]) end
    self._keys[list[i]], self._like[list[i]] = nil, nil
  end
end

---@param key neap.Key
---@return boolean
function Store:contains(key)
  local handle = self._handle or closed()
  return C.neap_store_contains(handle, c_key(self._keys, keys_of.plain(key), 'contains')) ~= 0
end

--- All keys, in the order of their init.
---@return neap.Key[]
function Store:keys()
  local handle = self._handle or closed()
  local list, key = {}, ffi.new('neap_key[1]')
  while C.neap_store_key(handle, #list, key) == 0 do
    list[#list + 1] = keys_of.from_c(key[0])
  end
  return list
end

-- ---- push ----------------------------------------------------------------------------------

-- For one key and one array. Filled right before the call: see array.lua.
local one = ffi.new('neap_array *[1]')

--- Sees to it that the optimizer has a program for what is about to be pushed. Unknown keys
-- and what is no array are left to the library and to flatten().
local function bind(self, list, lists)
  local optimizer, like = self._optimizer, self._like
  for i = 1, #list do
    local first = type(lists[i]) == 'table' and lists[i][1]
    if like[list[i]] and is(first) then optimizer:bind(list[i], first.stype, like[list[i]]) end
  end
end

local new_array = ffi.typeof('neap_array *[1]')

--- Sums of all keys first, so that a mistake in one of them is raised before the updater was
-- called for any; then the updater, key by key. Whatever it raises goes to who pushed.
local function run_updater(self, handle, list, lists, priority, check, where)
  local pushed, stored = {}, {}
  for i = 1, #list do
    local key = c_key(self._keys, list[i], where)
    local counts, handles = flatten({ lists[i] }, where)
    local out = new_array()
    raise.check(C.neap_store_sum(handle, key, counts[0], handles, priority, out))
    pushed[i] = array.adopt(out[0])
    raise.check(C.neap_store_value(handle, key, out))
    stored[i] = array.adopt(out[0], 0)
  end
  if check then check(stored) end
  local updater = self._updater
  for i = 1, #list do updater(list[i], pushed[i], stored[i]) end
end

local function push_lists(self, key, value, opts)
  local handle = self._handle or closed()
  local priority = read_options(opts, 'push')
  local list, many = key_list(key, 'push')
  local lists = value_lists(value, many, #list, 'push', 'the value')
  if self._updater then
    run_updater(self, handle, list, lists, priority, nil, 'push')
    return
  end
  local counts, handles = flatten(lists, 'push')
  if self._optimizer then bind(self, list, lists) end
  raise.check(C.neap_store_push(handle, #list, c_keys(self._keys, list, 'push'), counts, handles,
    priority))
end

--- Adds up each key's arrays. Then the optimizer, or the updater, gets the sum; with neither,
-- the sum becomes the stored value. Returns at once; the arrays may be changed right after.
-- Raises, and changes nothing, for an unknown key, and for a wrong shape, dtype or storage.
---@param key neap.Key|neap.Key[]
---@param value neap.Value|neap.Value[]
---@param opts? integer|table priority (higher first), or {priority =}
function Store:push(key, value, opts)
  local known = self._keys[key]
  if not known or not is(value) or self._updater or type(opts) == 'table' then
    return push_lists(self, key, value, opts)
  end
  local handle = self._handle or closed()
  local priority = opts and check_priority(opts, 'push') or 0
  local optimizer = self._optimizer
  if optimizer then optimizer:bind(key, value.stype, self._like[key]) end
  one[0] = handle_of(value, 'push')
  if C.neap_store_push(handle, 1, known, nil, one, priority) ~= 0 then raise.raise_last() end
end

-- ---- pull ----------------------------------------------------------------------------------

local function pull_lists(self, key, out, opts)
  local handle = self._handle or closed()
  local priority, ignore = read_options(opts, 'pull')
  local list, many = key_list(key, 'pull')
  local counts, handles = flatten(value_lists(out, many, #list, 'pull', 'out'), 'pull')
  raise.check(C.neap_store_pull(handle, #list, c_keys(self._keys, list, 'pull'), counts, handles,
    priority, ignore))
end

--- Copies stored values, as they are after every earlier push, into `out`. Returns at once.
-- A row-sparse array is left alone unless {ignore_sparse = false} is given.
---@param key neap.Key|neap.Key[]
---@param out neap.Value|neap.Value[]
---@param opts? integer|table priority, or {priority =, ignore_sparse =}
function Store:pull(key, out, opts)
  local known = self._keys[key]
  if not known or not is(out) or type(opts) == 'table' then
    return pull_lists(self, key, out, opts)
  end
  local handle = self._handle or closed()
  local priority = opts and check_priority(opts, 'pull') or 0
  one[0] = handle_of(out, 'pull')
  if C.neap_store_pull(handle, 1, known, nil, one, priority, 1) ~= 0 then raise.raise_last() end
end

--- Row ids as an int64 or int32 array: an array of any dtype, or a table of numbers.
local function read_ids(ids, where)
  if is(ids) then
    local dtype = ids.dtype
    return (dtype == 'int64' or dtype == 'int32') and ids or ids:astype('int64')
  end
  if type(ids) ~= 'table' then
    raise.raise('%s: row ids are an array or a table of numbers, not %s', where, describe(ids))
  end
  if #ids == 0 then return nd.zeros({ 0 }, { dtype = 'int64' }) end
  return nd.array(ids, { dtype = 'int64' })
end

--- The ids for each out of one key: one for all, or a list of as many.
local function ids_for(ids, outs, several, where)
  local result = {}
  local first = type(ids) == 'table' and ids[1]
  if is(first) or (several and type(first) == 'table') then
    if #ids ~= #outs then
      raise.raise('%s: %d lists of row ids for %d arrays', where, #ids, #outs)
    end
    for k = 1, #outs do result[k] = read_ids(ids[k], where) end
  else
    local all = read_ids(ids, where)
    for k = 1, #outs do result[k] = all end
  end
  return result
end

--- Of each key only the rows that `row_ids` names, into row-sparse arrays. Ids: an array of any
-- shape, or a table, in any order, with any repeats; for several outs one for all, or a list of
-- one for each; for a list of keys a list of those. Rows not asked for are absent. An id that
-- is out of range is a late error of `out`.
---@param key neap.Key|neap.Key[]
---@param out neap.Value|neap.Value[]
---@param row_ids neap.Array|integer[]|table
---@param opts? integer|table priority, or {priority =}
function Store:row_sparse_pull(key, out, row_ids, opts)
  local where = 'row_sparse_pull'
  local handle = self._handle or closed()
  local priority = read_options(opts, where)
  local list, many = key_list(key, where)
  local lists = value_lists(out, many, #list, where, 'out')
  local counts, handles = flatten(lists, where)
  local ids = {}
  if many and not is(row_ids) then
    if type(row_ids) ~= 'table' or #row_ids ~= #list then
      raise.raise('%s: for a list of %d keys, row ids are one array or a list of as many', where,
        #list)
    end
    for i = 1, #list do ids[i] = ids_for(row_ids[i], lists[i], not is(out[i]), where) end
  else
    for i = 1, #list do ids[i] = ids_for(row_ids, lists[i], not many and not is(out), where) end
  end
  local _, id_handles = flatten(ids, where)
  raise.check(C.neap_store_pull_rows(handle, #list, c_keys(self._keys, list, where), counts,
    handles, id_handles, priority))
end

--- For updaters: outs are checked before the updater is called, as the library would.
local function check_outs(list, outs, stored)
  for i = 1, #list do
    for _, out in ipairs(outs[i]) do
      if not array.same_shape(out, stored[i]) or out.dtype ~= stored[i].dtype then
        raise.raise('pushpull: %s: %s %s where %s %s is stored', keys_of.text(list[i]), out.dtype,
          array.shape_text(out._info), stored[i].dtype, array.shape_text(stored[i]._info))
      end
    end
  end
end

--- push and pull in one. Without `out`, the value's arrays are what is pulled into.
---@param key neap.Key|neap.Key[]
---@param value neap.Value|neap.Value[]
---@param out? neap.Value|neap.Value[]
---@param opts? integer|table priority, or {priority =, ignore_sparse =}
function Store:pushpull(key, value, out, opts)
  local where = 'pushpull'
  local handle = self._handle or closed()
  if out == nil then out = value end
  local priority, ignore = read_options(opts, where)
  local list, many = key_list(key, where)
  local lists = value_lists(value, many, #list, where, 'the value')
  local outs = value_lists(out, many, #list, where, 'out')
  local out_counts, out_handles = flatten(outs, where)
  local keys = c_keys(self._keys, list, where)
  if self._updater then
    run_updater(self, handle, list, lists, priority,
      function(stored) check_outs(list, outs, stored) end, where)
    raise.check(C.neap_store_pull(handle, #list, keys, out_counts, out_handles, priority, ignore))
    return
  end
  local counts, handles = flatten(lists, where)
  if self._optimizer then bind(self, list, lists) end
  raise.check(C.neap_store_pushpull(handle, #list, keys, counts, handles, out_counts, out_handles,
    priority, ignore))
end

-- ---- Optimizers and updaters ---------------------------------------------------------------

local function is_optimizer(o)
  return type(o) == 'table' and type(o.attach) == 'function' and type(o.bind) == 'function'
end

--- Pushes update by this optimizer from now on. Set again, states that the old and the new one
-- have in common (same name and shape) carry over; what migrate(old, new, w) of the new script
-- says comes on top. If that raises, the old one stays. In a dist store the script and its
-- settings go to all servers; returns when all have switched to it, or raises what one of them has
-- to say against it.
---@param o neap.Optimizer of neap.optim
---@return integer version 1 at the first call; it only grows
function Store:set_optimizer(o)
  if not self._handle then closed() end
  if not is_optimizer(o) then
    raise.raise('set_optimizer: an optimizer of neap.optim is wanted, not %s', describe(o))
  end
  return self._kind.set_optimizer(self, o)
end

--- Puts the optimizer back that set_optimizer replaced last, with the version, settings and states
-- that it had then; the values stay what they are, and pushes from now on update by it. One step
-- back is kept, and gone once taken: then this raises.
---@return integer version the one that it had
function Store:rollback_optimizer()
  if not self._handle then closed() end
  return self._kind.rollback_optimizer(self)
end

--- Pushes call f(key, pushed, stored) from now on: `pushed` is the sum, a copy; `stored` is the
-- store's own array, which f changes. What f raises, push raises. nil: no updater any more. A
-- dist store has none, and raises.
---@param f fun(key: neap.Key, pushed: neap.Array, stored: neap.Array)|nil
function Store:set_updater(f)
  if not self._handle then closed() end
  local meta = getmetatable(f)
  if f ~= nil and type(f) ~= 'function' and not (type(meta) == 'table' and meta.__call) then
    raise.raise('set_updater: a function is wanted, not %s', describe(f))
  end
  self._kind.set_updater(self, f)
end

--- What updates: nil without an optimizer.
---@return { name: string, version: integer, hash: string, settings: table }|nil
function Store:optimizer()
  if not self._handle then closed() end
  local o, version = self._kind.optimizer(self)
  if not o then return nil end
  return { name = o.name, version = version, hash = o.hash, settings = o:settings() }
end

--- The last changes of a dist store's optimizer, oldest first; 16 are kept.
---@return { version: integer, hash: string, what: string, time: integer, name: string,
-- who: string }[]
function Store:optimizer_history()
  local out = ffi.new('const char *[1]')
  raise.check(C.neap_store_optimizer_history(self._handle or closed(), out))
  local list = {}
  for line in ffi.string(out[0]):gmatch('[^\n]+') do
    local version, hash, what, time, name, who = line:match('^(%d+) (%x+) (%a+) (%d+) (%S+) (.*)$')
    list[#list + 1] = { version = tonumber(version), hash = hash, what = what,
      time = tonumber(time), name = name, who = who }
  end
  return list
end

--- Changes settings of the optimizer, from the next push on; on all servers, in a dist store.
---@param settings table<string, any>
function Store:set_hyper(settings)
  if not self._handle then closed() end
  if type(settings) ~= 'table' then
    raise.raise('set_hyper: a table of settings is wanted, not %s', describe(settings))
  end
  self._kind.set(self, settings, 'set_hyper')
end

---@param rate number from the next push on
function Store:set_learning_rate(rate)
  if not self._handle then closed() end
  if type(rate) ~= 'number' then
    raise.raise('set_learning_rate: a number is wanted, not %s', describe(rate))
  end
  self._kind.set(self, { learning_rate = rate }, 'set_learning_rate')
end

--- Writes the optimizer's states and counts to a file in the .safetensors format, those of all
-- servers in one; with `dump_optimizer` its script and settings too, so that another store needs
-- no set_optimizer.
---@param path string
---@param dump_optimizer? boolean
function Store:save_optimizer_states(path, dump_optimizer)
  if not self._handle then closed() end
  local o = self._kind.with_states(self, 'save_optimizer_states')
  require('neap.kv_states').save(o, self:keys(), path, dump_optimizer)
end

--- Reads what save_optimizer_states wrote, by a store of whatever type and number of servers;
-- training goes on as if never interrupted. A file with an optimizer sets it; for another one the
-- same optimizer must be set before. In a dist store one worker does this, for all.
---@param path string
function Store:load_optimizer_states(path)
  if not self._handle then closed() end
  self._kind.load_states(self, path)
end

-- ---- The rest ------------------------------------------------------------------------------

--- Waits until every init and push so far is done; raises the late error of one that failed. In a
-- dist store, workers wait for each other: the earlier pushes of all are done then. With fewer
-- batches than the others, close instead: in dist_sync they would wait for this worker's pushes.
function Store:barrier()
  raise.check(C.neap_store_barrier(self._handle or closed()))
end

--- Hands a number and a text to the controller of each server (neap.server.start), and waits for
-- what they answer. A store of one process has no servers.
---@param head number
---@param body string
---@return string[] answers one for each server
function Store:send_command_to_servers(head, body)
  if not self._handle then closed() end
  if type(head) ~= 'number' or type(body) ~= 'string' then
    raise.raise('send_command_to_servers: a number and a string are wanted, not %s and %s',
      describe(head), describe(body))
  end
  return self._kind.command(self, head, body)
end

--- What is going on at each server of a dist store, by name: numbers, and texts where there are
-- some; `server` is its rank. Other stores raise.
---@return { servers: table<string, number|string>[] }
function Store:stats()
  local out = ffi.new('const char *[1]')
  raise.check(C.neap_store_stats(self._handle or closed(), out))
  local servers = {}
  for name, value in ffi.string(out[0]):gmatch('(%S+) +([^\n]*)') do
    if name == 'server' then servers[#servers + 1] = {} end
    servers[#servers][name] = tonumber(value) or value
  end
  return { servers = servers }
end

local COMPRESSION = { type = true, threshold = true }

--- Compresses dense float32 pushes from now on: each array is quantised, what is sent is added
-- up, and the rest waits in that sender's residual for its next push. In device stores.
---@param settings { type: string, threshold: number? } type '2bit' (threshold above 0, 0.5 if none
-- is given: sends +threshold, -threshold or nothing) or '1bit' (0: +1 for what is above it, or -1)
function Store:set_gradient_compression(settings)
  local where = 'set_gradient_compression'
  local handle = self._handle or closed()
  if type(settings) ~= 'table' then
    raise.raise('%s: a table {type =, threshold =} is wanted, not %s', where, describe(settings))
  end
  for name in pairs(settings) do
    if not COMPRESSION[name] then
      raise.raise('%s: unknown option %s; there are type, threshold', where, describe(name))
    end
  end
  if type(settings.type) ~= 'string' then
    raise.raise('%s: the type is a string, not %s', where, describe(settings.type))
  end
  local threshold = settings.threshold
  if threshold ~= nil and (type(threshold) ~= 'number' or threshold ~= threshold) then
    raise.raise('%s: the threshold is a number, not %s', where, describe(threshold))
  end
  raise.check(C.neap_store_set_compression(handle, settings.type, threshold or 0 / 0))
end

local CAPABILITIES = { optimizer = true }

--- Whether the store can do something: 'optimizer', update by one.
---@param what string
---@return boolean
function Store:is_capable(what)
  local answer = CAPABILITIES[what]
  if answer == nil then
    raise.raise('is_capable: unknown capability %s; there is \'optimizer\'', describe(what))
  end
  return answer
end

--- Ends the store; a worker of a job leaves it in order. Queued work completes; arrays pulled into
-- stay. May be called again.
function Store:close()
  local handle = self._handle
  if not handle then return end
  self._handle, self._keys, self._like = nil, {}, {}
  self._kind.close(self, handle)
end

function Store:__tostring()
  return ("neap.Store '%s'%s"):format(self.type, self._handle and '' or ' (closed)')
end

--- Makes a store. Types: local, local_allreduce_cpu, local_update_cpu, device,
-- local_allreduce_device; in a job dist, dist_sync, dist_async and their like (kv_dist.lua). Raises
-- with the list for another name.
---@param name? string 'local' if none is given
---@param opts? table for a dist store: kv_dist.lua; for a local store: none
---@return neap.Store
function M.create(name, opts)
  if name == nil then name = 'local' end
  if type(name) ~= 'string' then raise.raise('kv.create: name must be a string') end
  if opts ~= nil and type(opts) ~= 'table' then
    raise.raise('kv.create: options are a table, not %s', describe(opts))
  end
  local self = setmetatable({
    type = name,
    rank = 0,
    num_workers = 1,
    num_servers = 0,
    _kind = require(DIST[name] and 'neap.kv_dist' or 'neap.kv_local'), -- what differs
    -- neap_store *, nil when closed. A store is no cdata itself, because it holds tables.
    _handle = nil,
    _keys = {},      -- neap_key[1] by key
    _like = {},      -- shape and dtype by key
    _optimizer = nil, -- local stores: what they update with
    _updater = nil,
    _version = 0,    -- of the optimizer
    _highest = 0,    -- of all so far
  }, Store)
  self._kind.open(self, name, opts or {})
  return self
end

--- The valid names of types.
---@return string[]
function M.types()
  local names = {}
  while true do
    local name = C.neap_store_type_name(#names)
    if name == nil then return names end
    names[#names + 1] = ffi.string(name)
  end
end

return M
