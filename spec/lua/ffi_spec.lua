-- SPDX-License-Identifier: MIT
-- neap.ffi: the declarations and the library fit together.

local ffi = require 'ffi'
local root = debug.getinfo(1, 'S').source:match('^@(.*)spec/lua/') or ''

local function read(path)
  local file = assert(io.open(path))
  local text = file:read('*a')
  file:close()
  return text
end

-- Runs Lua source in a process of its own; gives back what it printed, errors included.
local function run(environment, source)
  local name = os.tmpname()
  local file = assert(io.open(name, 'w'))
  file:write(source)
  file:close()
  local pipe = assert(io.popen(('%s LUA_PATH="%slua/?.lua" luajit %s 2>&1'):format(
    environment, root, name)))
  local output = pipe:read('*a')
  pipe:close()
  os.remove(name)
  return output
end

describe('neap.ffi', function()
  local lib = require 'neap.ffi'

  it('knows every function of the header, and finds each in the library', function()
    local header = read(root .. 'engine/neap.h')
    local names, missing = 0, {}
    for name in header:gmatch('NEAP_API [%w_ ]-[%s%*](neap_[%w_]+)%(') do
      names = names + 1
      local ok, why = pcall(function() return lib[name] end)
      if not ok then missing[#missing + 1] = why end
    end
    local lines = select(2, header:gsub('\nNEAP_API ', ''))
    assert.equal(lines, names)
    assert.is_true(names > 80)
    assert.same({}, missing)
  end)

  it('knows constants and structures', function()
    assert.equal(0, tonumber(lib.NEAP_OK))
    assert.equal(1000, tonumber(lib.NEAP_ALL_AXES))
    assert.equal(8, ffi.sizeof(ffi.new('neap_array_info').shape) / ffi.sizeof('int64_t'))
    local options = ffi.new('neap_options')
    lib.neap_options_init(options, ffi.sizeof(options))
    assert.equal(ffi.sizeof('neap_options'), tonumber(options.size))
  end)

  it('may be required again after being unloaded', function()
    package.loaded['neap.ffi'] = nil
    local again = require 'neap.ffi'
    assert.equal(ffi.string(lib.neap_version()), ffi.string(again.neap_version()))
  end)

  it('takes NEAP_LIBRARY, and no other place, when it is set', function()
    local output = run('NEAP_LIBRARY=/nowhere/libneap.so', 'require "neap.ffi"')
    assert.truthy(output:find('/nowhere/libneap.so', 1, true))
    assert.falsy(output:find('build/release', 1, true))
    assert.truthy(output:find('cmake --preset release', 1, true))
  end)

  it('says when the file named is another library', function()
    local output = run('NEAP_LIBRARY=libm.so.6', 'require "neap.ffi"')
    assert.truthy(output:find('libm.so.6 is no libneap', 1, true))
  end)
end)
