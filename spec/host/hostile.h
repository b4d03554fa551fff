/* SPDX-License-Identifier: MIT */
/* hostile.h - scripts that mean harm, or forget to end, and words of the refusals: tried by
 * themselves (hostile_test.c) and on servers that others use (hostile_live_test.c). */
#ifndef NEAP_SPEC_HOSTILE_H
#define NEAP_SPEC_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define UPDATE(body) "return { name = 'evil', update = function(w, g, s, p) " body " end }"
#define TOP(body)    body " return { name = 'evil', update = function(w) return w end }"
#define RATE(body)   "return { name = 'evil', rate = function(t, p) " body " end }"

typedef struct hostile {
  const char *source, *words; /* words: what the refusal holds */
} hostile;

static const hostile SCRIPTS[] = {
    /* never ends */
    {TOP("while true do end"), "script:1: runs for more than "},
    {TOP("repeat local x = 1 until false"), "runs for more than"},
    {TOP("local function f() return f() end f()"), "runs for more than"},
    {TOP("::a:: goto a"), "runs for more than"},
    {UPDATE("while true do end"), "evil:1: runs for more than "},
    {UPDATE("for i = 1, 1e15 do g = g * 1 end return w"), "evil:1: runs for more than"},
    {UPDATE("for i = 1, 1e15 do local x = p.t end return w"), "runs for more than"},
    {UPDATE("for i = 1, 1e15 do local x = min(i, 3) end return w"), "runs for more than"},
    {UPDATE("local t = {} for i = 1, 2e5 do t[i] = i end for i = 1, 2e5 do t[i] = nil end "
            "while true do next(t) end"),
     "runs for more than"},
    {UPDATE("local a = ('x'):rep(6e4) while true do local b = a:reverse():upper():lower() end"),
     "runs for more than"},
    {UPDATE("local t = {} for i = 1, 7e3 do t[i] = i end while true do select('#', unpack(t)) end"),
     "runs for more than"},
    {UPDATE(
         "local t = {} for i = 1, 1e5 do t[i] = -i end while true do for _ in pairs(t) do end end"),
     "runs for more than"},
    {UPDATE("while true do tostring({}) tonumber('12') end"), "runs for more than"},
    {UPDATE("while true do local f = function() return w end end"), "runs for more than"},
    /* takes all memory */
    {TOP("local t = {} for i = 1, 1e9 do t[i] = { i } end"), "script:1: needs more than "},
    {UPDATE("local t = {} for i = 1, 1e9 do t[i] = i end"), "evil:1: needs more than "},
    {UPDATE("local a = 'x' while true do a = a .. a end"), "needs more than"},
    {UPDATE("local t = {} for i = 1, 1e9 do t['k' .. i] = true end"), "needs more than"},
    {UPDATE("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(6e4) .. i end"), "needs more than"},
    {UPDATE("local t = {} while true do t = { t } end"), "needs more than"},
    {UPDATE("local f while true do local g = f f = function() return g end end"),
     "needs more than"},
    /* recursion */
    {UPDATE("local function f(x) return 1 + f(x) end return f(w)"), "evil:1: stack overflow"},
    {UPDATE("local function f(...) return 1 + f(1, ...) end return f(w)"), "evil:1:"},
    {UPDATE("return w + select('#', unpack({}, 1, 1e7))"), "evil:1: too many results"},
    {UPDATE("return w + select('#', ('x'):rep(6e4):byte(1, -1))"), "evil:1: string slice too long"},
    /* reaches for the outside */
    {UPDATE("return io.open('/etc/passwd')"), "evil:1: attempt to index global 'io'"},
    {UPDATE("os.exit(3)"), "global 'os'"},
    {UPDATE("os.execute('true')"), "global 'os'"},
    {UPDATE("require 'ffi'"), "global 'require'"},
    {UPDATE("ffi.cast('int *', 0)[0] = 1"), "global 'ffi'"},
    {UPDATE("load('return 1')"), "global 'load'"},
    {UPDATE("loadstring('return 1')"), "global 'loadstring'"},
    {UPDATE("dofile('/etc/passwd')"), "global 'dofile'"},
    {UPDATE("debug.getregistry()"), "global 'debug'"},
    {UPDATE("jit.on()"), "global 'jit'"},
    {UPDATE("package.loadlib('libc.so.6', 'exit')"), "global 'package'"},
    {UPDATE("getmetatable('').__index.rep = nil"), "global 'getmetatable'"},
    {UPDATE("setmetatable({}, { __gc = error })"), "global 'setmetatable'"},
    {UPDATE("rawset(p, 'x', 1)"), "global 'rawset'"},
    {UPDATE("newproxy(true)"), "global 'newproxy'"},
    {UPDATE("collectgarbage('stop')"), "global 'collectgarbage'"},
    {UPDATE("coroutine.wrap(function() end)()"), "global 'coroutine'"},
    {UPDATE("pcall(error)"), "global 'pcall'"},
    {UPDATE("xpcall(error, error)"), "global 'xpcall'"},
    {UPDATE("setfenv(1, {})"), "global 'setfenv'"},
    {UPDATE("getfenv(0)"), "global 'getfenv'"},
    {UPDATE("print('here')"), "global 'print'"},
    {UPDATE("string.rep('x', 3)"), "global 'string'"},
    {UPDATE("_G.x = 1"), "global '_G'"},
    {UPDATE("return w + math.random()"), "'random'"},
    /* strings: patterns, large ones, and what makes bytecode */
    {UPDATE("return ('x'):rep(1e9)"), "evil:1: rep: a text of more than 65536 bytes"},
    {UPDATE("return (''):rep({})"), "evil:1: rep: a number of times"},
    {UPDATE("return ('a'):find(('a?'):rep(30) .. ('a'):rep(30))"), "method 'find'"},
    {UPDATE("return ('a'):match('.-b')"), "method 'match'"},
    {UPDATE("return ('a'):gsub('.', '%0%0')"), "method 'gsub'"},
    {UPDATE("return ('a'):gmatch('.')"), "method 'gmatch'"},
    {UPDATE("return (''):dump(1)"), "method 'dump'"},
    {UPDATE("return ('%99.99f'):format(1e308)"), "evil:1: format: "},
    {UPDATE("return ('%'):rep(6e4):format()"), "evil:1: format: "},
    {UPDATE("('').__index.x = 1"), "evil:1: attempt to index field '__index' (a nil value)"},
    {UPDATE("('').rep = nil"), "evil:1:"},
    /* errors that are no texts, or strange ones */
    {UPDATE("error({})"), "evil:1: raised a table in the place of an error text"},
    {UPDATE("error(w)"), "evil:1: raised a cdata in the place"},
    {UPDATE("error(nil)"), "evil:1: raised a nil in"},
    {UPDATE("error(p)"), "evil:1: raised a table in the place of an error text"},
    {UPDATE("error({ message = {} })"), "evil:1: raised a table in the place of an error text"},
    {UPDATE("error({ message = ('%s%n'):rep(99) })"), "evil:1: %s%n"},
    {UPDATE("error('\\27[2J\\0\\1hidden', 0)"), "?[2J??hidden"},
    {UPDATE("error(('x'):rep(6e4), 0)"), "xxxx"},
    {UPDATE("error(('\\195\\164'):rep(3e4), 0)"), "\xc3\xa4"},
    {UPDATE("assert(false, 'no \\n way')"), "no \n way"},
    /* what it returns */
    {"return setmetatable({}, {})", "global 'setmetatable'"},
    {"return { name = 'a\\nb', update = function() end }", "name must be a word"},
    {"return { name = ('x'):rep(64), update = function() end }", "name must be a word"},
    {"return { name = 'evil', update = function() end, ['\\27[2J'] = 1 }", "no field ?[2J"},
    {"return { name = 'evil', update = function() end, [{}] = 1 }", "no field table"},
    {"local d = {} d.d = d return { name = 'evil', update = function() end, defaults = d }",
     "defaults.d is a table"},
    {"local d = {} for i = 1, 1e4 do d['x' .. i] = i end "
     "return { name = 'evil', update = function() end, defaults = d }",
     "defaults has more than 1000 entries"},
    {"local d = {} for i = 1, 1e4 do d[i] = i end "
     "return { name = 'evil', update = function() end, defaults = { d = d } }",
     "defaults.d has more than 1000 entries"},
    {"local d = {} for i = 1, 1e4 do d[i] = 's' .. i end "
     "return { name = 'evil', update = function() end, state = d }",
     "state has more than 1000 entries"},
    {"return { name = 'evil', update = math.sin }", "script: update must be a function that the"},
    {"return { name = 'evil', update = clip }", "function that the script defines"},
    {"local n = 0 return { name = tostring({}):sub(1, 5), update = function() return n end }",
     "table:1: update must return"},
    {"local d = { x = 1 } return { name = 'evil', defaults = d, scalars = d, update = function(w, "
     "g, "
     "s, p) d.x = 'y' s.x = s.x + 1 d.z = {} return w + #p.x end }",
     "evil:1: "},
    /* expressions */
    {UPDATE("for i = 1, 1e9 do g = g + i end return g"), "evil:1: more than 4096 operations"},
    {UPDATE("for i = 1, 1e9 do g = g * g end return g"), "more than 4096 operations"},
    {UPDATE("return w.x"), "evil:1: an expression has no field"},
    {UPDATE("w.x = 1"), "evil:1: an expression cannot be assigned"},
    {UPDATE("return w()"), "evil:1: an expression is called"},
    {UPDATE("if w == g then return w end return g"), "evil:1: an expression is compared by =="},
    {UPDATE("return s[w]"), "there is no state"},
    {UPDATE("return p[p]"), "there is no setting a table"},
    {UPDATE("return p[w]"), "there is no setting"},
    {UPDATE("p.learning_rate = 3"), "read only"},
    {UPDATE("return ipairs(w)"), "evil:1: "},
    {UPDATE("return unpack(w)"), "evil:1: bad argument"},
    {UPDATE("for k in pairs({ [{}] = 1 }) do end return w"), "pairs: keys are numbers and strings"},
    /* no text of a script */
    {"\x1bLJ\2\n", "bytecode"},
    {"return {", "script:1: "},
    {"", "a script returns a table"},
};

#define NUM_SCRIPTS (sizeof SCRIPTS / sizeof *SCRIPTS)

/* Which limit a bomb comes to first, memory or time, depends on the machine. */
static bool says(const char *error, const char *words) {
  return strstr(error, words) ||
         (strstr(words, "needs more than") && strstr(error, "runs for more"));
}

#endif
