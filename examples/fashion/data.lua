-- SPDX-License-Identifier: MIT
--- Fashion-MNIST as arrays: 28x28 grey pictures of clothes in ten classes, 60,000 to learn
-- from and 10,000 to test on. As on Debian after `apt install dataset-fashion-mnist`.

local idx = require 'fashion.idx'
local neap = require 'neap'
local nd = neap.nd

local M = {
  FOLDER = '/usr/share/datasets/fashion-mnist',
  CLASSES = 10,
}

local INSTALL = 'apt install dataset-fashion-mnist'

local function read(folder, name, ndim)
  local path = folder .. '/' .. name
  local bytes, shape, missing = idx.read(path, ndim)
  if bytes then return bytes, shape end
  if missing then
    return nil, ('%s\nThe data is missing. On Debian:  %s\nElsewhere: put the four files of '
      .. 'github.com/zalandoresearch/fashion-mnist into a folder, and name it by --data')
      :format(shape, INSTALL)
  end
  return nil, ('%s is damaged: %s\nReplace it. On Debian:  %s')
    :format(path, shape, INSTALL:gsub('install', 'install --reinstall'))
end

-- One of the two sets:
--   images  float32 (n, pixels), 0 to 1       labels   int64 (n), 0 to 9
--   targets float32 (n, 10), 1 at the label   n, pixels
local function load_set(folder, prefix)
  local images, shape = read(folder, prefix .. '-images-idx3-ubyte.gz', 3)
  if not images then return nil, shape end
  local labels, count = read(folder, prefix .. '-labels-idx1-ubyte.gz', 1)
  if not labels then return nil, count end
  local n, pixels = shape[1], shape[2] * shape[3]
  if count[1] ~= n then
    return nil, ('%s: %s has %d images, but there are %d labels'):format(folder, prefix, n,
      count[1])
  end
  for i = 0, n - 1 do
    if labels[i] >= M.CLASSES then
      return nil, ('%s: %s has a label %d; they go from 0 to %d'):format(folder, prefix,
        labels[i], M.CLASSES - 1)
    end
  end
  local set = { n = n, pixels = pixels }
  set.images = nd.array(images, { dtype = 'uint8', shape = { n, pixels } }):astype('float32')
  set.images:div_(255)
  set.labels = nd.array(labels, { dtype = 'uint8', shape = n }):astype('int64')
  local unit = {}
  for i = 1, M.CLASSES do
    unit[i] = {}
    for j = 1, M.CLASSES do unit[i][j] = i == j and 1 or 0 end
  end
  set.targets = nd.take(nd.array(unit), set.labels)
  return set
end

--- Loads both sets.
---@param folder string
---@return table? train, table|string test or what is wrong
function M.load(folder)
  local train, why = load_set(folder, 'train')
  if not train then return nil, why end
  local test
  test, why = load_set(folder, 't10k')
  if not test then return nil, why end
  if test.pixels ~= train.pixels then
    return nil, ('%s: images of %d pixels to learn from, of %d to test on'):format(folder,
      train.pixels, test.pixels)
  end
  return train, test
end

return M
