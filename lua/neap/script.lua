-- SPDX-License-Identifier: MIT
--- Scripts: finds their text, and runs it where it can do nothing but compute.
--
-- A script is source text, at most 64 KiB, that returns a table; for optimizers
--
--   name      a word                    defaults  { setting = number, boolean, string or list }
--   update    function(w, g, s, p)      state     { 'a', b = 0.5, c = 'weight' }
--   migrate   function(old, new, w)     scalars   { x = 1 }
--
-- and for schedules name, defaults, rate = function(t, p) and, if it likes, check = function(p),
-- which is given the plain settings and raises if they make no sense. A script's environment
-- is a table of its own, with the recorder's functions (record.lua) and a few of Lua's that
-- cannot reach outside. Bytecode is refused, since nothing verifies it.
--
-- A script may run for a second. The hook that sees to that fires in interpreted code only, so
-- the script's own functions are kept from being compiled.

local ffi = require 'ffi'
local raise = require 'neap.raise'
local record = require 'neap.record'

local M = {}

local LONGEST = 64 * 1024
local SECONDS = 1
local HOOK_EVERY = 10000 -- instructions
local MOST = 1000 -- entries of a table that a script declares

-- Beside this file's folder, in the source tree and where it is installed alike.
local FOLDER = (debug.getinfo(1, 'S').source:match('^@(.*)neap[/\\]script%.lua$') or './') ..
  'optim/'

-- ---- The environment -----------------------------------------------------------------------

local MATH = { 'abs', 'acos', 'asin', 'atan', 'atan2', 'ceil', 'cos', 'cosh', 'deg', 'exp',
  'floor', 'fmod', 'frexp', 'huge', 'ldexp', 'log', 'log10', 'max', 'min', 'modf', 'pi', 'pow',
  'rad', 'sin', 'sinh', 'sqrt', 'tan', 'tanh' }

--- tostring for scripts: tables and functions without the address, which no two processes share.
---@param x any
---@return string
function M.text(x)
  local kind = type(x)
  return (kind == 'table' or kind == 'function') and kind or tostring(x)
end

local function before(a, b)
  if type(a) ~= type(b) then return type(a) == 'number' end
  return a < b
end

--- pairs for scripts: in the order of the keys, so that the same is recorded in every process.
local function ordered_pairs(t)
  local keys = {}
  for key in pairs(t) do
    if type(key) ~= 'number' and type(key) ~= 'string' then
      raise.raise('pairs: keys are numbers and strings, not %s', raise.describe(key))
    end
    keys[#keys + 1] = key
  end
  table.sort(keys, before)
  local i = 0
  return function()
    i = i + 1
    return keys[i], t[keys[i]]
  end
end

--- What a script sees, made anew for each: no script can change what another gets.
local function environment()
  local env = record.functions()
  env.math = {}
  for _, name in ipairs(MATH) do env.math[name] = math[name] end
  env.pairs, env.ipairs, env.next, env.select = ordered_pairs, ipairs, next, select
  env.type, env.tostring, env.unpack = type, M.text, unpack
  env.error, env.assert = error, assert
  env.tonumber = function(x, base)
    if record.is_expression(x) then record.refuse_number() end
    return tonumber(x, base)
  end
  return env
end

--- Calls f(...) with a limit on its time. What it raises is raised again.
local function limited(f, ...)
  local hook, mask, count = debug.gethook()
  local ours = type(hook) == 'function' or hook == nil -- a C hook could not be put back
  local deadline = os.clock() + SECONDS
  if ours then
    debug.sethook(function()
      if os.clock() > deadline then
        raise.raise('runs for more than %d s; a script is run once, to record what it computes: ' ..
          'it must end', SECONDS)
      end
    end, '', HOOK_EVERY)
  end
  local results = { pcall(f, ...) }
  if ours then debug.sethook(hook, mask, count) end
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

--- Calls f(...) once more after it failed, and gives the line of `chunk` that it came to. What it
-- does is not looked at.
local function last_line(chunk, f, ...)
  local hook, mask, count = debug.gethook()
  if hook ~= nil and type(hook) ~= 'function' then return nil end
  local line
  debug.sethook(function()
    local info = debug.getinfo(2, 'Sl')
    if info.source == '=' .. chunk then line = info.currentline end
  end, 'l')
  pcall(f, ...)
  debug.sethook(hook, mask, count)
  return line
end

--- Has scripts' functions called by others than the two above: on servers, by C functions that
-- limit them more strictly (lua/host/scripts_state.c).
---@param how { call: fun(f: function, ...), last_line: fun(chunk: string, f: function, ...) }
function M.confine(how)
  limited, last_line = how.call, how.last_line
end

-- ---- Checking what a script returns --------------------------------------------------------

local function is_word(text)
  return type(text) == 'string' and #text <= 63 and text:find('^[%a_][%w_]*$') ~= nil
end

local function refuse(chunk, message, ...)
  error(('%s: ' .. message):format(chunk, ...), 0)
end

local function is_list_of_numbers(value)
  if type(value) ~= 'table' then return false end
  local n = 0
  for k, v in pairs(value) do
    if type(k) ~= 'number' or type(v) ~= 'number' then return false end
    n = n + 1
  end
  return n == #value
end

--- What a setting may be: number (not NaN), boolean, string, list of numbers.
---@param value any
---@return boolean
function M.is_setting(value)
  local kind = type(value)
  return (kind == 'number' and value == value) or kind == 'boolean' or kind == 'string' or
    is_list_of_numbers(value)
end

--- A copy, so that the script's functions cannot change what was checked; none if it is nil.
local function copy(chunk, what, t)
  local values, n = {}, 0
  for key, value in pairs(t or {}) do
    n = n + 1
    if n > MOST then refuse(chunk, '%s has more than %d entries', what, MOST) end
    values[key] = value
  end
  return values
end

local function check_defaults(chunk, defaults)
  if defaults ~= nil and type(defaults) ~= 'table' then
    refuse(chunk, 'defaults must be a table, not %s', raise.describe(defaults))
  end
  defaults = copy(chunk, 'defaults', defaults)
  for name, value in pairs(defaults) do
    if not is_word(name) then
      refuse(chunk, 'defaults: %s is no name of a setting', raise.describe(name))
    end
    if not M.is_setting(value) then
      refuse(chunk, 'defaults.%s is %s; a setting is a number, boolean, string or list of numbers',
        name, raise.describe(value))
    end
    if type(value) == 'table' then defaults[name] = copy(chunk, 'defaults.' .. name, value) end
  end
  return defaults
end

--- `state` as a map: name -> first value, a number or 'weight'.
local function read_states(chunk, declared)
  local states = {}
  if declared ~= nil and type(declared) ~= 'table' then
    refuse(chunk, "state must be a table, { 'mom' } or { mom = 0.1 }, not %s",
      raise.describe(declared))
  end
  for k, v in pairs(copy(chunk, 'state', declared)) do
    local name, start = k, v
    if type(k) == 'number' then name, start = v, 0 end
    if not is_word(name) then refuse(chunk, 'state: %s is no name', raise.describe(name)) end
    if start ~= 'weight' and type(start) ~= 'number' then
      refuse(chunk, "state.%s starts from a number or 'weight', not %s", name,
        raise.describe(start))
    end
    if states[name] ~= nil or name == 'scalars' or name == 'weight32' then
      refuse(chunk, 'state: the name %s is taken', name)
    end
    states[name] = start
  end
  return states
end

local function read_scalars(chunk, declared, states)
  if declared ~= nil and type(declared) ~= 'table' then
    refuse(chunk, 'scalars must be a table, { x = 1 }, not %s', raise.describe(declared))
  end
  declared = copy(chunk, 'scalars', declared)
  for name, value in pairs(declared) do
    if not is_word(name) or type(value) ~= 'number' then
      refuse(chunk, 'scalars: { name = first value } is wanted, not [%s] = %s',
        raise.describe(name), raise.describe(value))
    end
    if states[name] ~= nil then refuse(chunk, '%s is a state and a scalar at once', name) end
  end
  return declared
end

local function check_function(chunk, field, f)
  if type(f) ~= 'function' then
    refuse(chunk, '%s must be a function, not %s', field, raise.describe(f))
  end
  if debug.getinfo(f, 'S').source ~= '=' .. chunk then
    refuse(chunk, '%s must be a function that the script defines', field)
  end
end

local FIELDS = {
  update = { name = true, defaults = true, state = true, scalars = true, update = true,
    migrate = true },
  rate = { name = true, defaults = true, check = true, rate = true },
}

local function check(chunk, script, kind)
  if type(script) ~= 'table' then
    refuse(chunk, 'a script returns a table, { name =, %s = }, not %s', kind,
      raise.describe(script))
  end
  for field in pairs(script) do
    if not FIELDS[kind][field] then
      local known = {}
      for name in pairs(FIELDS[kind]) do known[#known + 1] = name end
      table.sort(known)
      refuse(chunk, 'there is no field %s in a script; there are %s', tostring(field),
        table.concat(known, ', '))
    end
  end
  if not is_word(script.name) then
    refuse(chunk, 'name must be a word, not %s', raise.describe(script.name))
  end
  check_function(chunk, kind, script[kind])
  if script.migrate ~= nil then check_function(chunk, 'migrate', script.migrate) end
  if script.check ~= nil then check_function(chunk, 'check', script.check) end
  local states = read_states(chunk, script.state)
  return {
    name = script.name,
    defaults = check_defaults(chunk, script.defaults),
    states = states,
    scalars = read_scalars(chunk, script.scalars, states),
  }
end

-- ---- Loading -------------------------------------------------------------------------------

local function run(text, chunk)
  local f, message = load(text, '=' .. chunk, 't', environment())
  if not f then error(message, 0) end
  jit.off(f, true)
  return limited(f)
end

---@class neap.Script
---@field name string
---@field source string
---@field hash string 16 hexadecimal digits of the source (FNV-1a, 64 bits)
---@field defaults table<string, any>
---@field states table<string, number|'weight'> first values
---@field scalars table<string, number> first values
---@field line integer where update or rate begins
---@field call fun(...) update or rate, with the limit on time
---@field last_line fun(...): integer where a call ended that failed
---@field migrate? table the same three for migrate
---@field check? fun(p: table) schedules: raises if settings make no sense

local function hash(text)
  local h = 0xcbf29ce484222325ULL
  for i = 1, #text do h = bit.bxor(h, text:byte(i)) * 0x100000001b3ULL end
  return bit.tohex(h, 16)
end

--- How the recorder calls a function of a script: line, call and last_line are set in `entry`.
local function make_callable(entry, chunk, f)
  entry.name = chunk
  entry.line = debug.getinfo(f, 'S').linedefined
  entry.call = function(...) return limited(f, ...) end
  entry.last_line = function(...) return last_line(chunk, f, ...) or entry.line end
  return entry
end

--- Runs a script's text. `chunk` is what errors call it until it says its name; `kind` the
-- function it must have: 'update' or 'rate'. Errors begin with the name, and the line if there
-- is one.
---@param text string
---@param chunk string
---@param kind string
---@return neap.Script
function M.parse(text, chunk, kind)
  if #text > LONGEST then
    error(('%s: a script has at most %d bytes; this has %d'):format(chunk, LONGEST, #text), 0)
  end
  if text:byte(1) == 27 or text:find('\0', 1, true) then
    error(('%s: this is bytecode, or has zero bytes; a script is source text'):format(chunk), 0)
  end
  local returned = run(text, chunk)
  local script = check(chunk, returned, kind)
  -- Once more, so that errors of its functions carry its own name.
  if script.name ~= chunk then returned = run(text, script.name) end
  script.source, script.hash = text, hash(text)
  make_callable(script, script.name, returned[kind])
  script.migrate = returned.migrate and make_callable({}, script.name, returned.migrate)
  script.check = returned.check and function(...) return limited(returned.check, ...) end
  return script
end

local function read_file(path)
  local file, message = io.open(path, 'rb')
  if not file then return nil, message end
  local text = file:read(LONGEST + 1)
  file:close()
  return text or ''
end

--- The text of a script that comes with Neap; nil, and where it was looked for.
---@param name string 'sgd', 'schedules/poly'
---@return string|nil text
---@return string where
function M.find(name)
  local path = FOLDER .. name .. '.lua'
  return read_file(path), path
end

-- Lua itself cannot list a folder, and a list kept by hand would be one more place to change for
-- a new script. A glob_t of glibc and musl begins so:
local Found = ffi.typeof 'struct { size_t count; char **paths; size_t offset; char rest[256]; }'
ffi.cdef [[
int glob(const char *pattern, int flags, void *error, void *found);
void globfree(void *found);
]]

--- The names of the scripts in a folder, sorted. Elsewhere than on Linux, none.
local function names_in(folder)
  local names = {}
  if jit.os ~= 'Linux' then return names end
  local found = Found()
  if ffi.C.glob(folder:gsub('[%*%?%[\\]', '\\%0') .. '*.lua', 0, nil, found) == 0 then
    for i = 0, tonumber(found.count) - 1 do
      names[i + 1] = ffi.string(found.paths[i]):match('([^/]*)%.lua$')
    end
    ffi.C.globfree(found)
  end
  table.sort(names)
  return names
end

--- A script that comes with Neap, by name. Raises, and lists those that there are.
---@param what string 'optimizer' or 'schedule', for the error
---@param name string
---@param folder string '' or 'schedules/'
---@param kind string 'update' or 'rate'
---@return neap.Script
function M.by_name(what, name, folder, kind)
  local text = name:find('^[%w_]+$') and M.find(folder .. name)
  if text then return M.parse(text, name, kind) end
  local names = names_in(FOLDER .. folder)
  raise.raise('there is no %s %q; there are %s', what, name,
    #names > 0 and table.concat(names, ', ') or 'those in ' .. FOLDER .. folder)
end

--- A script from a file, or from its text: text has a line break in it, or begins with
-- `return`.
---@param path_or_source string
---@param kind string
---@return neap.Script
function M.load(path_or_source, kind)
  if type(path_or_source) ~= 'string' then
    raise.raise('load: a path or the text of a script is wanted, not %s',
      raise.describe(path_or_source))
  end
  if path_or_source:find('\n') or path_or_source:find('^%s*return') or
    path_or_source:byte(1) == 27 then
    return M.parse(path_or_source, 'script', kind)
  end
  local text, message = read_file(path_or_source)
  if not text then raise.raise('load: %s', message) end
  local chunk = path_or_source:match('([^/\\]+)$'):gsub('%.lua$', '')
  return M.parse(text, chunk, kind)
end

return M
