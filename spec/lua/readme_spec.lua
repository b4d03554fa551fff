-- SPDX-License-Identifier: MIT
-- The README's examples run as printed: each block of Lua in a process of its own, and what it
-- prints is the block of text that follows. So do its commands, in a fresh clone that is built.

local unistd = require 'posix.unistd'

local here = debug.getinfo(1, 'S').source:match('^@(.*)spec/lua/') or './'

local function read(path)
  local file = assert(io.open(path, 'rb'))
  local bytes = file:read('*a')
  file:close()
  return bytes
end

local root = here:sub(1, 1) == '/' and here or unistd.getcwd() .. '/' .. here

-- What a reader is told to put on LUA_PATH.
local LUA_PATH = ("LUA_PATH='%slua/?.lua;%slua/?/init.lua;;'"):format(root, root)

-- In a folder of its own, where it may leave files.
local function run(source)
  local folder = os.tmpname()
  os.remove(folder)
  assert(os.execute('mkdir ' .. folder) == 0)
  local file = assert(io.open(folder .. '/example.lua', 'wb'))
  file:write(source)
  file:close()
  local pipe = io.popen(('cd %s && %s luajit example.lua 2>&1'):format(folder, LUA_PATH))
  local output = pipe:read('*a')
  pipe:close()
  os.execute('rm -r ' .. folder)
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

  -- Runs a command as a reader would, in the folder of the sources: status and output.
  local function command(words)
    local program = os.getenv('NEAP_PROGRAM') or 'build/release/neap'
    words = words:gsub('^build/release/neap', "'" .. program .. "'")
    local pipe = io.popen(("cd '%s' && env -u LUA_PATH -u NEAP_LIBRARY %s 2>&1; echo \"status $?\"")
      :format(root, words))
    local output, status = pipe:read('*a'):match('^(.*)status (%d+)\n$')
    pipe:close()
    return tonumber(status), output
  end

  it('has a job that starts as printed', function()
    local words = readme:match('\n    (build/release/neap launch [^\n]* examples/[^\n]*)\n')
    local data = io.open '/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz'
    if not data then
      pending('dataset-fashion-mnist is not installed')
      return
    end
    data:close()
    local out = os.tmpname()
    os.remove(out)
    local status, output = command(words .. ' --epochs 1 --batch-size 6000 --out ' .. out)
    os.execute('rm -rf ' .. out)
    assert.equal(0, status, output)
    assert.truthy(output:find('test accuracy [%d.]+ after 1 epoch;'), output)
  end)

  it('has programs that say how they are used', function()
    local count_of_programs = 0
    for words in readme:gmatch('`([%w_/]+ examples/[%w_]+%.lua)`') do
      count_of_programs = count_of_programs + 1
      local status, output = command(words .. ' --help')
      assert.equal(0, status, output)
      assert.truthy(output:find('Usage: ', 1, true), output)
    end
    assert.truthy(count_of_programs >= 2)
  end)

  it('names files that are there', function()
    for path in readme:gmatch('`([%w_]+/[%w_/]+%.%a+)`') do
      local file = io.open(here .. path)
      assert.truthy(path:find('[/_]x[_.]') or file, path)
      if file then file:close() end
    end
  end)
end)
