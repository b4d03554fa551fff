-- SPDX-License-Identifier: MIT
--- The recorder: runs a script's update once, on expressions, and writes down what it computes
-- as a program (kernels/program.h).
--
-- An expression stands for numbers that do not exist yet, so it cannot be compared: a script
-- that tried would take one branch for good. Expressions are cdata, not tables, because Lua
-- asks the metamethods of tables only when both sides are tables: `w == 0` would be false
-- without a word. For cdata every comparison comes here, and is refused with the script's line.
--
-- Equal nodes are recorded once. Numbers are folded where Lua itself does it (both sides are
-- plain numbers), and x * 1, x / 1, x - 0, x ^ 1, x ^ 2 become what gives the same bits for less.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local raise = require 'neap.raise'

local M = {}

local SCALAR, ROW, ELEMENT = 0, 1, 2
local NONE = 0xffffffff

-- The recording under way, nil if there is none, and how many there were.
local active
local recordings = 0

--- How many recordings were made so far.
---@return integer
function M.count() return recordings end

--- Raises at the script's line. In `return sqrt(x)` the script has left the stack by the time
-- sqrt runs (a tail call): then a table goes up, and M.update finds the line.
local function refuse(message, ...)
  message = message:format(...)
  if active then
    local source, level = '=' .. active.script.name, 2
    local info = debug.getinfo(level, 'S')
    while info and info.source ~= source do
      level = level + 1
      info = debug.getinfo(level, 'S')
    end
    if not info then error({ message = message }, 0) end
    error(message, level)
  end
  raise.raise('%s', message)
end

-- ---- Nodes ---------------------------------------------------------------------------------

local Expression

local numbers = setmetatable({}, { __index = function(self, name)
  local number = C.neap_program_op(name)
  assert(number >= 0, name)
  self[name] = number
  return number
end })

--- A node of the active recording; an equal one, if there is one already.
local function node(op, kind, a, b, c)
  local id = ('%s %d %d %d'):format(op, a or 0, b or 0, c or 0)
  local number = active.known[id]
  if not number then
    local nodes = active.nodes
    number = #nodes
    if number >= 4096 then
      refuse('more than 4096 operations; is this a loop over elements? ' ..
        'Expressions already work on all elements at once')
    end
    nodes[number + 1] = { numbers[op], a or 0, b or 0, c or 0, kind = kind, op = op }
    active.known[id] = number
  end
  return Expression(number, active.id)
end

local function constant(value)
  -- By bits: 0 and -0 differ, and NaN is one constant.
  local id = ('%a %s'):format(value, tostring(1 / value))
  local index = active.constant_of[id]
  if not index then
    index = #active.constants
    active.constants[index + 1] = value
    active.constant_of[id] = index
  end
  return node('constant', SCALAR, index)
end

--- The number of the node that an operand stands for.
local function operand(x, what)
  if ffi.istype(Expression, x) then
    if not active then refuse('an expression is used outside update') end
    if x.record ~= active.id then
      refuse('%s is an expression kept from an earlier recording; an expression is valid in the ' ..
        'call of update that made it: keep numbers in s instead', what)
    end
    return x.node
  end
  if type(x) == 'number' then return constant(x).node end
  if x == nil then
    refuse('%s is nil; is it misspelled, or not given a value on this path?', what)
  end
  if type(x) == 'boolean' then
    refuse("%s is %s; test it with 'if' before computing with it", what, tostring(x))
  end
  refuse('%s is %s; expressions are computed from numbers and expressions', what,
    raise.describe(x))
end

local function kind_of(number) return active.nodes[number + 1].kind end

local function map(op, a, b, c)
  local kind = kind_of(a)
  if b then kind = math.max(kind, kind_of(b)) end
  if c then kind = math.max(kind, kind_of(c)) end
  return node(op, kind, a, b, c)
end

-- ---- Expressions ---------------------------------------------------------------------------

local metatype = {}

local function binary(op, symbol, shortcut)
  return function(x, y)
    local short = shortcut and shortcut(x, y)
    if short then return short end
    local a = operand(x, ("the left side of '%s'"):format(symbol))
    local b = operand(y, ("the right side of '%s'"):format(symbol))
    return map(op, a, b)
  end
end

-- The same bits for less: shortcuts on operands that are plain numbers.
local function is_one(x) return type(x) == 'number' and x == 1 end
local function keep(x) operand(x, 'an operand'); return x end

metatype.__add = binary('add', '+')
metatype.__sub = binary('sub', '-', function(x, y)
  return type(y) == 'number' and 1 / y == math.huge and keep(x) or nil -- x - 0, not x - -0
end)
metatype.__mul = binary('mul', '*', function(x, y)
  return is_one(y) and keep(x) or is_one(x) and keep(y) or nil
end)
metatype.__div = binary('div', '/', function(x, y) return is_one(y) and keep(x) or nil end)
metatype.__pow = binary('pow', '^', function(x, y)
  if is_one(y) then return keep(x) end
  return type(y) == 'number' and y == 2 and keep(x) * x or nil
end)

function metatype.__mod()
  refuse("expressions have no '%%'; x - floor(x / y) * y is the remainder")
end

function metatype.__unm(x) return map('neg', operand(x, "the operand of '-'")) end

local COMPARISONS = {
  __eq = { '== or ~=', 'eq(a, b)' },
  __lt = { '< or >', 'lt(a, b) or gt(a, b)' },
  __le = { '<= or >=', 'le(a, b) or ge(a, b)' },
}
for event, texts in pairs(COMPARISONS) do
  metatype[event] = function()
    refuse('an expression is compared by %s, but it has no value while update is recorded: ' ..
      'write %s, which gives 1 or 0, and where(condition, a, b) in the place of if', texts[1],
      texts[2])
  end
end

function metatype.__index(_, key)
  refuse('an expression has no field %s; operations work on all elements at once',
    raise.describe(key))
end
function metatype.__newindex(_, key)
  refuse('an expression cannot be assigned to at %s; operations give new ones',
    raise.describe(key))
end
function metatype.__call() refuse('an expression is called like a function') end
function metatype.__len() refuse('an expression has no length; p.shape is the shape') end
function metatype.__concat() refuse('an expression is no text') end
function metatype.__tostring() return 'expression' end

Expression = ffi.metatype(ffi.typeof 'struct { int32_t node; uint32_t record; }', metatype)

---@param x any
---@return boolean
function M.is_expression(x) return ffi.istype(Expression, x) end
local is_expression = M.is_expression

function M.refuse_number()
  refuse('tonumber of an expression: it has no value while update is recorded')
end

-- ---- Functions of scripts ------------------------------------------------------------------
-- Each takes plain numbers too, and then gives one: schedules and settings may be computed with
-- before they meet an expression.

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
local function sign(x) return x > 0 and 1 or x < 0 and -1 or x == x and 0 or x end

local UNARY = { abs = math.abs, sign = sign, sqrt = math.sqrt, exp = math.exp, log = math.log,
  tanh = math.tanh, sigmoid = sigmoid, sin = math.sin, cos = math.cos, floor = math.floor }

local function bit_of(condition) return condition and 1 or 0 end
local BINARY = {
  lt = function(a, b) return bit_of(a < b) end,
  le = function(a, b) return bit_of(a <= b) end,
  gt = function(a, b) return bit_of(a > b) end,
  ge = function(a, b) return bit_of(a >= b) end,
  eq = function(a, b) return bit_of(a == b) end,
  min = function(a, b) return (a < b or a ~= a) and a or b end,
  max = function(a, b) return (a > b or a ~= a) and a or b end,
}

local functions = {}

local function argument(x, name, index)
  return operand(x, ('argument %d of %s'):format(index, name))
end

for name, plain in pairs(UNARY) do
  functions[name] = function(x, extra)
    if extra ~= nil then refuse('%s takes one argument', name) end
    if type(x) == 'number' then return plain(x) end
    return map(name, argument(x, name, 1))
  end
end

for name, plain in pairs(BINARY) do
  functions[name] = function(x, y, extra)
    if extra ~= nil then
      refuse('%s takes two arguments; %s(a, %s(b, c)) takes three', name, name, name)
    end
    if type(x) == 'number' and type(y) == 'number' then return plain(x, y) end
    return map(name, argument(x, name, 1), argument(y, name, 2))
  end
end

--- clip(x, bound): to [-bound, bound], x itself if bound is false; clip(x, low, high).
function functions.clip(x, low, high)
  if high == nil then
    if not low then return x end -- false or nil: no bound
    low, high = -low, low
  end
  return functions.min(functions.max(x, low), high)
end

--- where(c, a, b): a where c is not 0, else b.
function functions.where(c, a, b)
  if type(c) == 'boolean' then
    if c then return a end
    return b
  end
  if type(c) == 'number' then
    if c ~= 0 then return a end
    return b
  end
  return map('where', argument(c, 'where', 1), argument(a, 'where', 2), argument(b, 'where', 3))
end

for name, kind in pairs { sum = SCALAR, mean = SCALAR, norm = SCALAR, row_sum = ROW,
  row_mean = ROW } do
  functions[name] = function(x)
    local number = argument(x, name, 1)
    if kind_of(number) ~= ELEMENT then
      refuse("%s takes an expression of the weight's shape; this is %s", name,
        kind_of(number) == ROW and 'one number a row' or 'one number for the key')
    end
    return node(name, kind, number)
  end
end

for _, name in ipairs { 'uniform', 'normal' } do
  functions[name] = function(extra)
    if extra ~= nil then refuse('%s takes no arguments: scale and shift what it gives', name) end
    if not active then refuse('%s is used outside update', name) end
    active.draws = active.draws + 1 -- each call draws anew
    return node(name, ELEMENT, active.draws)
  end
end

--- is_zero(p.x): a plain boolean. The record holds for as long as the answer does: it is made
-- anew when the setting becomes 0, or ceases to be.
function functions.is_zero(x)
  if type(x) == 'number' then return x == 0 end
  if not is_expression(x) then
    refuse('is_zero takes a setting, is_zero(p.momentum), not %s', raise.describe(x))
  end
  local number = operand(x, 'the argument of is_zero')
  local name = active.setting_of[number]
  if not name or active.moving[name] then
    refuse('is_zero takes a setting that changes only when it is set, is_zero(p.momentum); of ' ..
      'other expressions where(eq(x, 0), a, b) makes the choice')
  end
  local zero = active.values[name] == 0
  active.zero[name] = zero
  return zero
end

--- A fresh table of all functions, for an environment.
---@return table<string, function>
function M.functions()
  local copy = {}
  for name, f in pairs(functions) do copy[name] = f end
  return copy
end

-- ---- What scripts are given ----------------------------------------------------------------

local function list(names)
  local sorted = {}
  for name in pairs(names) do sorted[#sorted + 1] = tostring(name) end
  table.sort(sorted)
  return #sorted > 0 and table.concat(sorted, ', ') or 'none'
end

--- Setting `name` of the script, which is called `c_name` in the program.
local function setting(name, c_name)
  local index = active.setting_index[c_name]
  if not index then
    index = #active.settings
    active.settings[index + 1] = c_name
    active.setting_index[c_name] = index
  end
  local expression = node('setting', SCALAR, index)
  active.setting_of[expression.node] = name
  return expression
end

local function copy_list(value)
  return type(value) == 'table' and { unpack(value) } or value
end

--- `p`: numbers are settings of the program; all else is a plain value.
---@param recording table
---@param c_name fun(name: string): string what a setting is called in the program
local function settings_table(recording, c_name)
  return setmetatable({}, {
    __index = function(_, name)
      local plain = recording.plain[name]
      if plain ~= nil then
        recording.used[name] = true
        return copy_list(plain)
      end
      local value = recording.values[name]
      if type(value) == 'number' or recording.moving[name] then
        return setting(name, c_name(name))
      end
      if value ~= nil then return copy_list(value) end
      refuse('there is no setting %s; there are %s', raise.describe(name),
        list(recording.all_names()))
    end,
    __newindex = function(_, name)
      refuse('p.%s cannot be assigned: settings are read only; use a local variable',
        tostring(name))
    end,
    __metatable = false,
  })
end

--- `s`: states and scalars, as they are, or as the script has set them. In the program their
-- names begin with `prefix`. `unknown` raises, for a name that there is not; so does `fixed`, if
-- given, for one that is set.
local function states_table(recording, prefix, unknown, fixed)
  local script = recording.script
  local shown = prefix == '' and 's.' or prefix
  local function read(name)
    local full = prefix .. tostring(name)
    local new = recording.new[full]
    if new ~= nil then return Expression(new, recording.id) end
    if script.states[full] ~= nil then
      return node('state', ELEMENT, recording.state(full, script.states[full]))
    end
    if script.scalars[full] ~= nil then
      return node('scalar', SCALAR, recording.scalar_index[full])
    end
    unknown(name)
  end
  local function write(name, value)
    if fixed then fixed(name) end
    local full = prefix .. tostring(name)
    if script.states[full] == nil and script.scalars[full] == nil then unknown(name) end
    local number = operand(value, ('what %s%s is set to'):format(shown, name))
    local kind = kind_of(number)
    if script.scalars[full] ~= nil and kind ~= SCALAR then
      refuse('%s%s is one number for the key, and is set to %s: sum, mean or norm make one ' ..
        'number, state = { ... } declares arrays', shown, name,
        kind == ROW and 'one number a row' or "an expression of the weight's shape")
    end
    if script.states[full] ~= nil then
      if kind == SCALAR and type(value) ~= 'number' then
        refuse("%s%s has the weight's shape, and is set to one number for the key: scalars = " ..
          '{ %s = 0 } declares numbers', shown, name, name)
      end
      recording.state(full, script.states[full])
    end
    recording.new[full] = number
  end
  return setmetatable({}, {
    __index = function(_, name) return read(name) end,
    __newindex = function(_, name, value) write(name, value) end,
    __metatable = false,
  })
end

--- Raises for a state that the script did not declare.
local function undeclared(recording)
  return function(name)
    refuse("there is no state %s: declare it, state = { '%s' } for an array or scalars = " ..
      '{ %s = 0 } for a number; there are %s', raise.describe(name), tostring(name),
      tostring(name), list(recording.declared))
  end
end

-- ---- Recordings ----------------------------------------------------------------------------

local function start(script, values, plain, moving)
  recordings = recordings + 1
  local recording = {
    id = recordings,
    script = script,
    values = values, -- settings
    plain = plain,   -- key, shape, stype
    moving = moving, -- settings whose value changes by itself
    nodes = {}, known = {},
    constants = {}, constant_of = {},
    settings = {}, setting_index = {}, setting_of = {},
    states = {}, state_index = {}, -- { name =, start = }
    scalars = {}, scalar_index = {},
    new = {},        -- nodes of new states and scalars, by name
    used = {},       -- which of plain were read
    zero = {},       -- answers of is_zero
    draws = 0,
    declared = {},
  }
  function recording.state(name, first)
    local index = recording.state_index[name]
    if not index then
      index = #recording.states
      recording.states[index + 1] = { name = name, start = first }
      recording.state_index[name] = index
    end
    return index
  end
  function recording.all_names()
    local names = {}
    for name in pairs(values) do names[name] = true end
    for name in pairs(plain) do names[name] = true end
    for name in pairs(moving) do names[name] = true end
    return names
  end
  -- All scalars, in one order: the programs of one script then share them as they are.
  for name in pairs(script.scalars or {}) do
    recording.scalars[#recording.scalars + 1] = name
    recording.declared[name] = true
  end
  table.sort(recording.scalars)
  for i, name in ipairs(recording.scalars) do recording.scalar_index[name] = i - 1 end
  for name in pairs(script.states or {}) do recording.declared[name] = true end
  return recording
end

--- The text in what refuse raised without a line; nil for anything else, such as what a script
-- raised itself.
local function message_of(raised)
  local message = type(raised) == 'table' and rawget(raised, 'message')
  return type(message) == 'string' and message or nil
end

--- Runs the script with `recording` active; nested or failed recordings leave things as they
-- were.
local function within(recording, f, ...)
  local before = active
  active = recording
  local ok, result, extra = pcall(f, ...)
  active = before
  if not ok then
    local message = message_of(result)
    local script = recording.script
    if message then result = ('%s:%d: %s'):format(script.name, script.line, message) end
    error(result, 0)
  end
  return result, extra
end

local function refuse_result(script, message, ...)
  error(('%s:%d: ' .. message):format(script.name, script.line, ...), 0)
end

--- What script.call(...) gives; an error without a line gets the one where it ended.
local function call(script, ...)
  local ok, result = pcall(script.call, ...)
  if ok then return result end
  local message = message_of(result)
  if message then
    result = ('%s:%d: %s'):format(script.name, script.last_line(...), message)
  end
  error(result, 0)
end

-- ---- Bytes ---------------------------------------------------------------------------------

local word = ffi.new('union { uint32_t word[2]; double real; uint8_t byte[8]; }')

local function words(out, ...)
  for i = 1, select('#', ...) do
    word.word[0] = select(i, ...)
    out[#out + 1] = ffi.string(word.byte, 4)
  end
end

local function real(out, value)
  word.real = value
  out[#out + 1] = ffi.string(word.byte, 8)
end

local SCHEDULE, LAZY = 1, 2

--- The program of a recording; kernels/program.h says what is where. Little-endian, as every
-- machine LuaJIT runs on today.
local function assemble(recording, result, flags)
  assert(ffi.abi('le'))
  local tables, strings, length = {}, {}, 0
  local function name(text)
    strings[#strings + 1] = text
    words(tables, length, #text)
    length = length + #text
  end
  for _, text in ipairs(recording.settings) do name(text) end
  for _, state in ipairs(recording.states) do
    name(state.name)
    local from_weight = state.start == 'weight'
    words(tables, from_weight and 1 or 0, recording.new[state.name] or NONE)
    real(tables, from_weight and 0 or state.start)
  end
  for _, text in ipairs(recording.scalars) do
    name(text)
    words(tables, 0, recording.new[text] or NONE)
    real(tables, recording.script.scalars[text])
  end
  for _, value in ipairs(recording.constants) do real(tables, value) end
  for _, n in ipairs(recording.nodes) do words(tables, n[1], n[2], n[3], n[4]) end
  local body = table.concat(tables) .. table.concat(strings)
  local header = {}
  words(header, 0x4752504e, 1, 48 + #body, flags, #recording.settings, #recording.states,
    #recording.scalars, #recording.constants, #recording.nodes, length, result, 0)
  return table.concat(header) .. body
end

-- ---- Recording scripts ---------------------------------------------------------------------

local MOVING = { learning_rate = true, t = true, num_update = true }

---@class neap.RecordFor what a record is made for
---@field values table<string, any> settings
---@field key neap.Key
---@field shape integer[]
---@field stype string of the gradient
---@field lazy boolean rows absent from a row-sparse gradient are left alone
---@field master boolean the weight is kept as a float32 state, weight32

--- Records update(w, g, s, p).
---@param script neap.Script
---@param want neap.RecordFor
---@return { bytes: string, used: table, zero: table }
function M.update(script, want)
  local plain = { key = want.key, shape = want.shape, stype = want.stype }
  local recording = start(script, want.values, plain, MOVING)
  local result = within(recording, function()
    local w = want.master and node('state', ELEMENT, recording.state('weight32', 'weight')) or
      node('weight', ELEMENT)
    local g = node('gradient', ELEMENT)
    local p = settings_table(recording, function(name) return name end)
    local s = states_table(recording, '', undeclared(recording))
    local new = call(script, w, g, s, p)
    if not is_expression(new) then
      refuse_result(script, 'update must return the new weight, an expression, not %s',
        raise.describe(new))
    end
    local number = operand(new, 'what update returns')
    if kind_of(number) ~= ELEMENT then
      refuse_result(script, "update must return an expression of the weight's shape, not %s",
        kind_of(number) == ROW and 'one number a row' or 'one number for the key')
    end
    return number
  end)
  if want.master then recording.new.weight32 = result end
  return {
    bytes = assemble(recording, result, want.lazy and want.stype == 'row_sparse' and LAZY or 0),
    used = recording.used,
    zero = recording.zero,
  }
end

--- Both scripts' names of one kind, told apart by a prefix, with what they begin with.
local function of_both(old, new)
  local both = {}
  for name, first in pairs(old) do both['old.' .. name] = first end
  for name, first in pairs(new) do both['new.' .. name] = first end
  return both
end

--- Records migrate(old, new, w): new states and scalars from those of the script that is
-- replaced. In the program mom of the old one is called old.mom, of the new one new.mom; the
-- weight stays what it is.
---@param script neap.Script
---@param replaced neap.Script
---@return string bytes
---@return string[] states in the program's order
function M.migrate(script, replaced)
  local recording = start({
    name = script.name, line = script.migrate.line,
    states = of_both(replaced.states, script.states),
    scalars = of_both(replaced.scalars, script.scalars),
  }, {}, {}, {})
  recording.declared = {}
  for name in pairs(script.states) do recording.declared[name] = true end
  for name in pairs(script.scalars) do recording.declared[name] = true end
  local function not_there(name)
    local names = {}
    for state in pairs(replaced.states) do names[state] = true end
    for scalar in pairs(replaced.scalars) do names[scalar] = true end
    refuse('%s, which is replaced, has no state %s; there are %s', replaced.name,
      raise.describe(name), list(names))
  end
  local function read_only(name)
    refuse('old.%s cannot be set: migrate sets what is in new', tostring(name))
  end
  local result = within(recording, function()
    local w = node('weight', ELEMENT)
    call(script.migrate, states_table(recording, 'old.', not_there, read_only),
      states_table(recording, 'new.', undeclared(recording)), w)
    return w.node
  end)
  local states = {}
  for i, state in ipairs(recording.states) do states[i] = state.name end
  return assemble(recording, result, 0), states
end

--- Records rate(t, p) of a schedule. In the program its setting x is called schedule.x, but
-- base_lr is the optimizer's learning_rate.
---@param script neap.Script
---@param values table<string, any> settings
---@return string bytes
function M.rate(script, values)
  local recording = start(script, values, {}, { t = true, base_lr = true })
  local result = within(recording, function()
    local p = settings_table(recording, function(name)
      if name == 'base_lr' then return 'learning_rate' end
      return name == 't' and 't' or 'schedule.' .. name
    end)
    local number = call(script, p.t, p)
    if not is_expression(number) and type(number) ~= 'number' then
      refuse_result(script, 'rate must return the learning rate, not %s', raise.describe(number))
    end
    return operand(number, 'what rate returns')
  end)
  return assemble(recording, result, SCHEDULE)
end

return M
