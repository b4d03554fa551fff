-- SPDX-License-Identifier: MIT
--- Arrays in files: .npy, .npz and .safetensors, as NumPy and the safetensors package
-- read and write them.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local context = require 'neap.context'
local raise = require 'neap.raise'

---@class neap.nd
local M = {}

local function check_path(path, where)
  if type(path) ~= 'string' then
    raise.raise('%s: a path is wanted, not %s', where, raise.describe(path))
  end
  if path:find('\0', 1, true) then raise.raise('%s: a zero byte in the path', where) end
end

--- Names in order, so that the same arrays make the same bytes.
local function sorted_names(by_name, where, what)
  local names = {}
  for name in pairs(by_name) do
    if type(name) ~= 'string' then
      raise.raise('%s: %s have texts for names, not %s', where, what, raise.describe(name))
    end
    if name:find('\0', 1, true) then raise.raise('%s: a zero byte in a name', where) end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- Writes one array, or a table of arrays by name. The path's ending is the format: .npy
-- (one array), .npz or .safetensors. A single array goes to .npz under NumPy's name for it,
-- arr_0. The file appears whole or not at all. Waits. bfloat16 goes to .safetensors only;
-- row-sparse arrays raise.
---@param path string
---@param arrays neap.Array|table<string, neap.Array>
---@param meta? table<string, string> .safetensors only: kept as __metadata__
function M.save(path, arrays, meta)
  check_path(path, 'save')
  local by_name = arrays
  if array.is(arrays) then
    if path:find('%.safetensors$') then
      raise.raise('save: a .safetensors file holds arrays by name: {name = array}')
    end
    by_name = { arr_0 = arrays }
  elseif type(arrays) ~= 'table' then
    raise.raise('save: an array or a table of arrays is wanted, not %s', raise.describe(arrays))
  elseif path:find('%.npy$') then
    raise.raise('save: a .npy file holds one array; .npz and .safetensors hold arrays by name')
  end
  local names = sorted_names(by_name, 'save', 'arrays')
  local c_names = ffi.new('const char *[?]', #names + 1)
  local handles = ffi.new('neap_array *[?]', #names + 1)
  for i, name in ipairs(names) do
    if not array.is(by_name[name]) then
      raise.raise('save: %q is %s, not an array', name, raise.describe(by_name[name]))
    end
    c_names[i - 1], handles[i - 1] = name, array.handle(by_name[name], 'save')
  end
  local pairs_of_meta = nil
  if meta ~= nil then
    if type(meta) ~= 'table' then
      raise.raise('save: metadata is a table of texts by name, not %s', raise.describe(meta))
    end
    local keys = sorted_names(meta, 'save', 'metadata')
    pairs_of_meta = ffi.new('const char *[?]', 2 * #keys + 1) -- ends with NULL
    for i, key in ipairs(keys) do
      local value = meta[key]
      if type(value) ~= 'string' or value:find('\0', 1, true) then
        raise.raise('save: metadata %q is a text without zero bytes, not %s', key,
          raise.describe(value))
      end
      pairs_of_meta[2 * i - 2], pairs_of_meta[2 * i - 1] = key, value
    end
  end
  -- `names`, `by_name` and `meta` hold on to the texts and arrays until here.
  raise.check(C.neap_file_save(context.handle(), path, #names, c_names, handles, pairs_of_meta))
end

local file_out = ffi.new('neap_file *[1]')
local array_out = ffi.new('neap_array *[1]')

--- Reads all of a file, whatever its name. A .npy gives its array; the others give a table
-- of arrays by name, and a .safetensors its __metadata__ as a second table, where it has one.
---@param path string
---@return neap.Array|table<string, neap.Array>
---@return table<string, string>? meta
function M.load(path)
  check_path(path, 'load')
  raise.check(C.neap_file_load(context.handle(), path, file_out))
  local file = ffi.gc(file_out[0], C.neap_file_close)
  local arrays = {}
  local single
  for i = 0, C.neap_file_count(file) - 1 do
    local name = ffi.string(C.neap_file_name(file, i))
    raise.check(C.neap_file_array(file, i, array_out))
    local loaded = array.adopt(array_out[0])
    if name == '' then single = loaded else arrays[name] = loaded end
  end
  local meta
  for i = 0, math.huge do
    local key = C.neap_file_meta_key(file, i)
    if key == nil then break end
    meta = meta or {}
    meta[ffi.string(key)] = ffi.string(C.neap_file_meta(file, key))
  end
  C.neap_file_close(ffi.gc(file, nil))
  return single or arrays, meta
end

return M
