-- SPDX-License-Identifier: MIT
-- spec/house.lua finds what it is there to find: each rule against a planted violation.

local LICENCE = '/* SPDX-License-Identifier: MIT */\n/* What it is for. */\n'
local LUA_LICENCE = '-- SPDX-License-Identifier: MIT\n--- What it is for.\n'

-- A small house that keeps all rules.
local function sound()
  return {
    ['kernels/kernel.h'] = LICENCE,
    ['engine/neap.h'] = LICENCE,
    ['engine/array.c'] = LICENCE ..
      '#include "neap.h"\n#include "../kernels/kernel.h"\n#include <pthread.h>\n',
    ['net/wire.c'] = LICENCE .. '#include "../engine/neap.h"\n#include <nng/nng.h>\n',
    ['lua/neap/init.lua'] = LUA_LICENCE .. 'require "neap.ffi"\n',
    ['spec/engine/array_test.c'] = LICENCE ..
      '#include "engine/neap.h"\nint main(void) { exit(1); }\n',
    ['spec/run'] = '#!/bin/sh\n# SPDX-License-Identifier: MIT\n# What it is for.\n',
  }
end

-- Builds the house with one thing changed; gives back what the check says, and its exit status.
local function check(name, text)
  local root = os.tmpname()
  os.remove(root)
  local files = sound()
  if name then files[name] = text end
  for path, content in pairs(files) do
    os.execute(("mkdir -p '%s/%s'"):format(root, path:match('^(.*)/') or ''))
    local file = assert(io.open(root .. '/' .. path, 'w'))
    file:write(content)
    file:close()
  end
  local pipe = io.popen(("luajit spec/house.lua '%s'; echo status $?"):format(root))
  local output = pipe:read('*a')
  pipe:close()
  os.execute(("rm -r '%s'"):format(root))
  return output:match('^(.-)status (%d+)\n$')
end

describe('spec/house.lua', function()
  it('says nothing of a sound house', function()
    local text, status = check()
    assert.equal('', text)
    assert.equal('0', status)
  end)

  local planted = {
    { 'kernels that use the engine', 'kernels/add.c', LICENCE .. '#include "../engine/neap.h"\n',
      'kernels must not use engine' },
    { 'kernels that use the engine by its folder only', 'kernels/add.c',
      LICENCE .. '# include "neap.h"\n', 'kernels must not use engine' },
    { 'an engine that uses the net', 'engine/store.c', LICENCE .. '#include "../net/wire.h"\n',
      'nowhere' },
    { 'an engine that includes a .c of the net', 'engine/store.c',
      LICENCE .. '#include "../net/wire.c"\n', 'engine must not use net' },
    { 'an engine that uses specs', 'engine/store.c',
      LICENCE .. '#include "../spec/engine/array_test.c"\n', 'engine must not use spec' },
    { 'kernels that use threads', 'kernels/add.c', LICENCE .. '#include <pthread.h>\n',
      '<pthread.h> is for engine' },
    { 'an engine that uses sockets', 'engine/store.c', LICENCE .. '#include <nng/nng.h>\n',
      '<nng/nng.h> is for net' },
    { 'a Lua module that requires specs', 'lua/neap/kv.lua',
      LUA_LICENCE .. 'local h = require("spec.lua.helper")\n',
      'lua must not use spec' },
    { 'a new entry at the top', 'utils/misc.c', LICENCE, 'utils: is new at the top' },
    { 'a file of 801 lines', 'engine/big.c', LICENCE .. ('\n'):rep(799), '801 lines' },
    { 'a C file without a licence line', 'engine/x.c', '/* x */\n', 'does not open with' },
    { 'a Lua file without a licence line', 'lua/optim/sgd.lua', '--- SGD.\nreturn {}\n',
      'does not open with' },
    { 'a script without a licence line', 'spec/all', '#!/bin/sh\n# All.\ntrue\n',
      'does not open with' },
    { 'a C file that does not say what it is for', 'engine/x.c',
      '/* SPDX-License-Identifier: MIT */\nint x;\n', 'does not say what it is for' },
    { 'a Lua file that does not say what it is for', 'lua/neap/kv.lua',
      '-- SPDX-License-Identifier: MIT\nreturn {}\n', 'does not say what it is for' },
    { 'a library that prints', 'engine/x.c', LICENCE .. 'void f(void) {\n  printf("x");\n}\n',
      'engine/x.c:4: printf() is not for a library' },
    { 'a library that ends the process', 'kernels/x.c',
      LICENCE .. 'void f(void) {\n  abort ();\n}\n', 'abort() is not for a library' },
    { 'a library that installs signal handlers', 'net/x.c',
      LICENCE .. 'void f(void) {\n  sigaction(1, 0, 0);\n}\n', 'sigaction() is not for a library' },
    { 'a library that reads the environment', 'engine/x.c',
      LICENCE .. 'int neap_options_env(int *o) {\n}\nint g(void) {\n  return !getenv("A");\n}\n',
      'engine/x.c:6: getenv() is not for a library' },
  }
  for _, case in ipairs(planted) do
    it('finds ' .. case[1], function()
      local text, status = check(case[2], case[3])
      assert.truthy(text:find(case[4], 1, true), text)
      assert.equal('1', status)
    end)
  end

  it('lets neap_options_env read the environment, and comments speak of anything', function()
    local text = check('engine/x.c', LICENCE ..
      'int neap_options_env(int *o) {\n  return !getenv("A");\n}\n' ..
      '/* abort() is bad */ // exit(1)\nconst char *s = "printf(\\"";\nchar c = \'"\';\n' ..
      'int f(void) {\n  return snprintf(0, 0, "exit(1)");\n}\n')
    assert.equal('', text)
  end)
end)
