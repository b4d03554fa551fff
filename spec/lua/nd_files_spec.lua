-- SPDX-License-Identifier: MIT
-- nd.save and nd.load from Lua; NumPy and the safetensors package, where they are, read what
-- is written here and write what is read here.

local neap = require 'neap'
local nd = neap.nd
local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')
local raises = support.raises

-- .ci/setup makes an environment with what Debian has no package of.
local PYTHON = support.root .. 'build/venv/bin/python3'
if not io.open(PYTHON) then PYTHON = '/usr/bin/python3' end

local function python(source)
  local name = os.tmpname()
  local file = assert(io.open(name, 'w'))
  file:write(source)
  file:close()
  local pipe = assert(io.popen(PYTHON .. ' ' .. name .. ' 2>&1'))
  local output = pipe:read('*a')
  pipe:close()
  os.remove(name)
  return output
end

local folder

describe('files', function()
  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert.equal(0, os.execute('mkdir ' .. folder))
  end)
  teardown(function() os.execute('rm -r ' .. folder) end)

  local function path(name) return folder .. '/' .. name end

  it('.npy holds one array, of every dtype that NumPy has', function()
    for _, dtype in ipairs {
      'float32', 'float64', 'float16', 'int8', 'uint8', 'int32', 'int64',
    } do
      local a = nd.array({ { 1, 2, 3 }, { 4, 5, 6 } }, { dtype = dtype })
      nd.save(path 'a.npy', a)
      local b = nd.load(path 'a.npy')
      assert.equal(dtype, b.dtype)
      assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, b:totable())
    end
    nd.save(path 'a.npy', nd.full({}, 2.5))
    assert.equal(2.5, nd.load(path 'a.npy'):totable())
  end)

  it('.npz and .safetensors hold arrays by name', function()
    for _, name in ipairs { 'a.npz', 'a.safetensors' } do
      nd.save(path(name), { weight = nd.ones({ 2, 2 }), ['bias/1'] = nd.arange(3),
        empty = nd.zeros({ 0, 2 }) })
      local back = nd.load(path(name))
      assert.same({ { 1, 1 }, { 1, 1 } }, back.weight:totable())
      assert.same({ 0, 1, 2 }, back['bias/1']:totable())
      assert.same({ 0, 2 }, back.empty.shape)
    end
  end)

  it('bfloat16 goes to .safetensors', function()
    nd.save(path 'b.safetensors', { w = nd.array({ 1.5 }, { dtype = 'bfloat16' }) })
    assert.equal('bfloat16', nd.load(path 'b.safetensors').w.dtype)
    assert.equal(1.5, nd.load(path 'b.safetensors').w:item())
    raises(function() nd.save(path 'b.npy', nd.ones(1, { dtype = 'bfloat16' })) end, 'bfloat16')
  end)

  it('one array in .npz has the name that NumPy gives it', function()
    nd.save(path 'one.npz', nd.ones(2))
    assert.same({ 1, 1 }, nd.load(path 'one.npz').arr_0:totable())
  end)

  it('metadata comes back as the second result', function()
    nd.save(path 'm.safetensors', { w = nd.ones(1) }, { epoch = '3', note = 'é "x"' })
    local _, meta = nd.load(path 'm.safetensors')
    assert.same({ epoch = '3', note = 'é "x"' }, meta)
  end)

  it('saving waits for queued work, and reads late errors', function()
    local a = nd.zeros({ 300, 300 })
    for _ = 1, 20 do a:add_(1) end
    nd.save(path 'q.npy', a)
    assert.equal(20 * 90000, nd.load(path 'q.npy'):sum():item())
    local bad = nd.ones(2):take({ 9 })
    raises(function() nd.save(path 'bad.npy', bad) end, 'take')
    pcall(neap.waitall)
    raises(function() nd.load(path 'bad.npy') end, 'bad.npy')
  end)

  it('views are saved as they are seen', function()
    nd.save(path 'v.npy', nd.arange(6):reshape({ 3, 2 }):slice(1, 2))
    assert.same({ { 2, 3 } }, nd.load(path 'v.npy'):totable())
  end)

  it('what cannot be saved raises', function()
    local a = nd.ones(2)
    raises(function() nd.save(path 'x.npy', { a = a }) end, 'one array')
    raises(function() nd.save(path 'x.safetensors', a) end, 'by name')
    raises(function() nd.save(path 'x.npz', { a = 1 }) end, '"a"', '1')
    raises(function() nd.save(path 'x.npz', { a }) end, 'texts for names', '1')
    raises(function() nd.save(path 'x.npz', 'a') end, '"a"')
    raises(function() nd.save(7, a) end, 'path', '7')
    raises(function() nd.save(path 'x.txt', a) end, '.npy')
    raises(function() nd.save(path 'no/such/x.npy', a) end, 'no/such/x.npy')
    raises(function() nd.save(path 'x.npz', { a = a }, { k = 'v' }) end)
    raises(function() nd.save(path 'x.safetensors', { a = a }, { k = 1 }) end, '"k"', '1')
    raises(function() nd.save(path 'x.safetensors', { a = a }, 'meta') end, '"meta"')
    raises(function() nd.save(path 'x.npz', { s = a:tostype('row_sparse') }) end)
  end)

  it('what cannot be loaded raises', function()
    raises(function() nd.load(path 'none.npy') end, 'none.npy')
    raises(function() nd.load() end, 'load', 'nil')
    local file = io.open(path 'junk.npy', 'w')
    file:write('this is no array')
    file:close()
    raises(function() nd.load(path 'junk.npy') end, 'junk.npy')
  end)

  it('NumPy reads and writes them', function()
    if python('import numpy'):find('Error') then pending('no numpy here') return end
    nd.save(path 'p.npz', { a = nd.array { { 1, 2 }, { 3, 4 } },
      b = nd.array({ -1 }, { dtype = 'int64' }), c = nd.full({}, 0.5, { dtype = 'float16' }) })
    assert.equal("['a', 'b', 'c'] [[1.0, 2.0], [3.0, 4.0]] float32 [-1] int64 0.5 float16\n",
      python(([==[
import numpy as np
z = np.load('%s')
print(sorted(z.files), z['a'].tolist(), z['a'].dtype, z['b'].tolist(), z['b'].dtype,
      z['c'].tolist(), z['c'].dtype)
np.savez_compressed('%s', x=np.arange(6, dtype='>i4').reshape(2, 3),
                    y=np.asfortranarray([[1., 2.], [3., 4.]]))
]==]):format(path 'p.npz', path 'q.npz')))
    local back = nd.load(path 'q.npz')
    assert.same({ { 0, 1, 2 }, { 3, 4, 5 } }, back.x:totable())
    assert.equal('int32', back.x.dtype)
    assert.same({ { 1, 2 }, { 3, 4 } }, back.y:totable())
  end)

  it('the safetensors package reads and writes them', function()
    if python('import numpy, safetensors.numpy'):find('Error') then
      pending('no safetensors package here')
      return
    end
    nd.save(path 'p.safetensors', { a = nd.array { { 1, 2 } } }, { k = 'v' })
    assert.equal("[[1.0, 2.0]] {'k': 'v'}\n", python(([[
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
with safe_open('%s', framework='np') as f:
    print(f.get_tensor('a').tolist(), f.metadata())
save_file({'x': np.arange(3, dtype='int8')}, '%s', {'from': 'python'})
]]):format(path 'p.safetensors', path 'q.safetensors')))
    local back, meta = nd.load(path 'q.safetensors')
    assert.same({ 0, 1, 2 }, back.x:totable())
    assert.same({ from = 'python' }, meta)
  end)
end)
