-- SPDX-License-Identifier: MIT
-- spec/symbols finds what it is there to find, in small libraries made here.

local HEADER = 'NEAP_API int neap_one(int a);\nNEAP_API const char *neap_two(void);\n'
local SOUND = 'int neap_one(int a) { return a; }\nconst char *neap_two(void) { return ""; }\n'

-- Builds a library of SOUND and `more`, which may also replace it; what the check says of it.
local function check(more, source)
  local base = os.tmpname()
  local function write(path, text)
    local file = assert(io.open(path, 'w'))
    file:write(text)
    file:close()
  end
  write(base .. '.h', HEADER)
  write(base .. '.c', (source or SOUND) .. (more or ''))
  local pipe = io.popen(('cc -shared -fPIC -o %s.so %s.c 2>&1 && spec/symbols %s.so %s.h 2>&1; ' ..
    'echo status $?; rm -f %s %s.*'):format(base, base, base, base, base, base))
  local output = pipe:read('*a')
  pipe:close()
  return output:match('^(.-)status (%d+)\n$')
end

describe('spec/symbols', function()
  it('says nothing of a library that shows what is declared', function()
    local text, status = check('static const int table[] = {1}; static __thread int last;\n' ..
      'const char *const names[] __attribute__((visibility("hidden"))) = {"a"};\n' ..
      '__attribute__((visibility("hidden"))) const int *f(void) { last++; return table; }\n')
    assert.equal('', text)
    assert.equal('0', status)
  end)

  local function finds(what, expected, more, source)
    it('finds ' .. what, function()
      local text, status = check(more, source)
      assert.truthy(text:find(expected, 1, true), text)
      assert.equal('1', status)
    end)
  end
  finds('a function that is not declared', 'not declared: neap_three', 'int neap_three;\n')
  finds('a name of another family', 'not declared: helper', 'void helper(void) {}\n')
  finds('a function that is missing', 'not there: neap_two', '',
    'int neap_one(int a) { return a; }')
  finds('a counter of the process', '\ncount\n',
    'static int count; __attribute__((visibility("hidden"))) int f(void) { return count++; }\n')
  finds('a setting of the process', '\nlimit\n',
    'static int limit = 7; __attribute__((visibility("hidden"))) int *f(void) { return &limit; }\n')
end)
