-- SPDX-License-Identifier: MIT
--- Finds libneap, loads it, and tells LuaJIT what is in it.
--
-- The declarations come out of the library (neap_declarations), which has them from
-- engine/neap.h, so that Lua and C cannot disagree. Returns the library's namespace:
-- functions and constants, as in the header.

local ffi = require 'ffi'

local EXTENSION = ({ OSX = 'dylib', Windows = 'dll' })[ffi.os] or 'so'
local SONAME = ffi.os == 'Linux' and 'libneap.so.0' or 'libneap.0.' .. EXTENSION

-- In a state that libneap_host made, the file of the libneap that the process uses; '' if that is
-- part of the program.
local HELD = debug.getregistry()['neap.library']

--- Where libneap may be, in order. NEAP_LIBRARY, when set, is the only place: whoever names
-- a file wants that one and no other. Sanitized builds are never tried unasked, since their
-- run-time ends a process that was started without it.
local function candidates()
  if HELD then return { HELD } end
  local named = os.getenv('NEAP_LIBRARY')
  if named and named ~= '' then return { named } end
  local here = debug.getinfo(1, 'S').source:match('^@(.*)neap[/\\]ffi%.lua$')
  local places = {}
  if here then
    for _, preset in ipairs { 'release', 'dev' } do -- <root>/lua/ beside <root>/build/
      places[#places + 1] = ('%s../build/%s/libneap.%s'):format(here, preset, EXTENSION)
    end
    places[#places + 1] = here .. '../../../lib/' .. SONAME -- <prefix>/share/lua/5.1/
  end
  places[#places + 1] = 'neap' -- by the system's own search
  places[#places + 1] = SONAME -- the same, without the development link
  return places
end

local function load()
  if HELD == '' then return ffi.C, 'this program' end
  local tried = {}
  for _, place in ipairs(candidates()) do
    local ok, lib = pcall(ffi.load, place)
    if ok then return lib, place end
    tried[#tried + 1] = ('  %s\n    (%s)'):format(place, lib)
  end
  error('neap: libneap was not found. Tried, in order:\n' .. table.concat(tried, '\n') ..
    '\nBuild it:  cmake --preset release && cmake --build --preset release' ..
    '\nor name the file:  NEAP_LIBRARY=/path/to/libneap.' .. EXTENSION, 0)
end

local lib, place = load()

-- Once for each Lua state: a second reading of the same structures would be an error, and
-- test runners do unload modules and require them again.
if not pcall(ffi.typeof, 'neap_options') then
  ffi.cdef 'const char *neap_declarations(void);'
  local ok, text = pcall(function() return ffi.string(lib.neap_declarations()) end)
  if not ok then error(('neap: %s is no libneap: %s'):format(place, text), 0) end
  ffi.cdef(text)
end

return lib
