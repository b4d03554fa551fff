-- SPDX-License-Identifier: MIT
-- libneap_host inside LuaJIT itself: its states are made by the LuaJIT that runs this, on the
-- libneap that this uses, and what they record is what is recorded here.

local ffi = require 'ffi'
local neap = require 'neap'
local C = require 'neap.ffi'
local context = require 'neap.context'
local keys_of = require 'neap.kv_keys'
local nd, optim = neap.nd, neap.optim

local host_path = os.getenv('NEAP_LIBRARY'):gsub('libneap%.', 'libneap_host.')
local library = ffi.load(host_path)

if not pcall(ffi.typeof, 'neap_host') then
  ffi.cdef 'const char *neap_host_declarations(void);'
  ffi.cdef(ffi.string(library.neap_host_declarations()))
end

local text = ffi.new('char[4096]')

local function check(status)
  if status ~= 0 then error(ffi.string(text), 0) end
end

describe('scripts of servers', function()
  local host, table_of

  setup(function()
    local out = ffi.new('neap_host *[1]')
    check(library.neap_host_create(nil, out, text, ffi.sizeof(text)))
    host = ffi.gc(out[0], library.neap_host_close)
    table_of = library.neap_host_scripts(host)
  end)

  teardown(function() library.neap_host_close(ffi.gc(host, nil)) end)

  local function open(dump)
    local script, handle = ffi.new('void *[1]'), ffi.new('neap_optimizer *[1]')
    check(table_of.open(table_of.user, context.handle(), dump, #dump, script, handle, text,
      ffi.sizeof(text)))
    return script[0], ffi.gc(handle[0], C.neap_optimizer_close)
  end

  local function bind(script, key, array)
    check(table_of.bind(table_of.user, script, keys_of.new(key, 'bind'), array._info, C.NEAP_DENSE,
      text, ffi.sizeof(text)))
  end

  it('give the same updates as here', function()
    local function updated(bound)
      local out = ffi.new('neap_store *[1]')
      assert(C.neap_store_create(context.handle(), 'local', out) == 0)
      local store = ffi.gc(out[0], C.neap_store_close)
      local w, g = nd.arange(0, 3) - 0.7, nd.arange(0, 3) / 8
      local key = keys_of.new('w', 'push')
      local arrays = ffi.new('neap_array *[1]', w._h)
      assert(C.neap_store_init(store, 1, key, arrays) == 0)
      assert(C.neap_store_set_optimizer(store, bound(w)) == 0)
      arrays[0] = g._h
      for _ = 1, 3 do assert(C.neap_store_push(store, 1, key, nil, arrays, 0) == 0) end
      arrays[0] = w._h
      assert(C.neap_store_pull(store, 1, key, nil, arrays, 0, 0) == 0)
      return w:totable()
    end
    local o = optim.adamw { wd = 0.01, lr_scheduler = neap.lr_scheduler.cosine { max_update = 9 } }
    local script, there
    local by_host = updated(function(w)
      script, there = open(o:dump())
      bind(script, 'w', w)
      return there
    end)
    table_of.close(table_of.user, script)
    assert.same(updated(function(w)
      local handle = o:attach(context.handle(), {})
      o:bind('w', 'default', w)
      return handle
    end), by_host)
  end)

  it('cannot touch this state', function()
    local o = optim.load [[return { name = 'rule', update = function(w)
      math.floor = nil pairs = nil
      return w + ('x'):len()
    end }]]
    local script = open(o:dump())
    bind(script, 'w', nd.zeros(3))
    table_of.close(table_of.user, script)
    assert.is_function(math.floor)
    assert.equal(1, (('a'):find('a')))
  end)

  it('are stopped, while this state goes on', function()
    local o = optim.load [[return { name = 'rule', update = function(w)
      while true do end
    end }]]
    local script = open(o:dump())
    local ok, message = pcall(bind, script, 'w', nd.zeros(3))
    assert.is_false(ok)
    assert.is_truthy(message:find('^rule:2: runs for more than 1 s'), message)
    table_of.close(table_of.user, script)
  end)

  it('take little time and memory', function()
    local dump = optim.lars {}:dump() -- asks for the key: recorded for each
    local w = nd.zeros(3)
    local start, count = os.clock(), 20
    for _ = 1, count do table_of.close(table_of.user, (open(dump))) end
    local opening = (os.clock() - start) / count
    local script = open(dump)
    local used, limit = ffi.new('size_t[1]'), ffi.new('size_t[1]')
    library.neap_host_usage(script, used, limit)
    start, count = os.clock(), 200
    for i = 1, count do bind(script, i, w) end
    local binding = (os.clock() - start) / count
    table_of.close(table_of.user, script)
    -- Generous: the machine may be busy.
    assert.is_true(opening < 0.25, ('opened in %g s'):format(opening))
    assert.is_true(binding < 0.05, ('bound in %g s'):format(binding))
    assert.is_true(tonumber(used[0]) < 8 * 2 ^ 20, ('%d bytes'):format(tonumber(used[0])))
    if os.getenv('NEAP_FIGURES') then
      print(('open %.2f ms, bind %.3f ms, %.2f MiB'):format(opening * 1e3, binding * 1e3,
        tonumber(used[0]) / 2 ^ 20))
    end
  end)
end)
