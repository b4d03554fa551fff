-- SPDX-License-Identifier: MIT
-- The README's examples run as printed: each block of Lua in a process of its own, and what it
-- prints is the block of text that follows.

local here = debug.getinfo(1, 'S').source:match('^@(.*)spec/lua/') or './'

local function read(path)
  local file = assert(io.open(path, 'rb'))
  local bytes = file:read('*a')
  file:close()
  return bytes
end

-- What a reader is told to put on LUA_PATH.
local LUA_PATH = ("LUA_PATH='%slua/?.lua;%slua/?/init.lua;;'"):format(here, here)

local function run(source)
  local path = os.tmpname()
  local file = assert(io.open(path, 'wb'))
  file:write(source)
  file:close()
  local pipe = io.popen(('%s luajit %s 2>&1'):format(LUA_PATH, path))
  local output = pipe:read('*a')
  pipe:close()
  os.remove(path)
  return output
end

describe('README.md', function()
  local readme = read(here .. 'README.md')
  local count = 0
  for source, rest in readme:gmatch('```lua\n(.-)```()') do
    count = count + 1
    local expected = readme:match('^[^`]-```text\n(.-)```', rest)
    it(('has an example %d that runs as printed'):format(count), function()
      assert.truthy(expected)
      assert.equal(expected, run(source))
    end)
  end

  it('has examples', function() assert.truthy(count >= 3) end)

  it('names files that are there', function()
    for path in readme:gmatch('`([%w_]+/[%w_/]+%.%a+)`') do
      local file = io.open(here .. path)
      assert.truthy(path:find('[/_]x[_.]') or file, path)
      if file then file:close() end
    end
  end)
end)
