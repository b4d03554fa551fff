-- SPDX-License-Identifier: MIT
--- Finds libneap_host, which runs optimizer scripts for servers and writes the log: it lies where
-- libneap does.

local ffi = require 'ffi'
local library = require 'neap.ffi'
local raise = require 'neap.raise'

local M = {}

-- Where the dynamic loader has found libneap: dladdr of one of its functions.
if not pcall(ffi.typeof, 'neap_Dl_info') then ffi.cdef [[
typedef struct { const char *file; void *base; const char *name; void *address; } neap_Dl_info;
int dladdr(const void *address, neap_Dl_info *info);
]] end

local function folder()
  local info = ffi.new('neap_Dl_info')
  local function_pointer = ffi.cast('const void *', library.neap_version)
  if ffi.C.dladdr(function_pointer, info) == 0 or info.file == nil then return '' end
  return ffi.string(info.file):match('^(.*/)') or ''
end

local function load()
  local tried = {}
  for _, name in ipairs { folder() .. 'libneap_host.so', folder() .. 'libneap_host.so.0' } do
    local ok, host = pcall(ffi.load, name)
    if ok then return host end
    tried[#tried + 1] = host
  end
  raise.raise('libneap_host was not found, and servers need it for scripts. Tried:\n  %s',
    table.concat(tried, '\n  '))
end

local loaded

local function declared()
  loaded = loaded or load()
  if not pcall(ffi.typeof, 'neap_host_options') then
    ffi.cdef 'const char *neap_host_declarations(void);'
    ffi.cdef(ffi.string(loaded.neap_host_declarations()))
  end
  return loaded
end

--- Lines of the library's log, up to `level`, on standard error.
---@param options ffi.cdata* neap_options
---@param level integer neap_log_level
---@param name string
---@return ffi.cdata* lines must live as long as the context
function M.log(options, level, name)
  local host = declared()
  local lines = ffi.new('neap_host_lines', level, name)
  options.log, options.user = host.neap_host_log, lines
  return lines
end

--- A table of functions for servers (neap_scripts), and what closes it after them.
---@return ffi.cdata* scripts, fun() close
function M.open()
  declared()
  local host, text = ffi.new('neap_host *[1]'), ffi.new('char[1024]')
  if loaded.neap_host_create(nil, host, text, 1024) ~= 0 then
    raise.raise('%s', ffi.string(text))
  end
  local library_now = loaded -- stays loaded until the close
  return loaded.neap_host_scripts(host[0]), function() library_now.neap_host_close(host[0]) end
end

return M
