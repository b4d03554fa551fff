-- SPDX-License-Identifier: MIT
--- What training gave so far: the points of the curves, and the sums of the epoch that runs.
-- It is written into checkpoints as text, so that the curves of a resumed run are whole.

local M = {}
M.__index = M

local POINTS = 20 -- of the training curve, for each epoch

--- @param batches integer in an epoch
function M.new(batches)
  return setmetatable({
    every = math.max(1, math.floor(batches / POINTS)), -- batches in a point
    train = {}, test = {}, -- points { epochs, loss, accuracy }
    window = { images = 0, loss = 0, hits = 0 }, -- since the last point
    epoch = { images = 0, loss = 0, hits = 0 },
  }, M)
end

local function reset(sums) sums.images, sums.loss, sums.hits = 0, 0, 0 end

--- A batch's sums. `at`: how many epochs are done, as a fraction; `batch`: in this epoch.
function M:batch(at, batch, images, loss, hits)
  for _, sums in ipairs { self.window, self.epoch } do
    sums.images, sums.loss, sums.hits = sums.images + images, sums.loss + loss, sums.hits + hits
  end
  if batch % self.every == 0 then
    local w = self.window
    self.train[#self.train + 1] = { at, w.loss / w.images, w.hits / w.images }
    reset(w)
  end
end

--- The mean loss of this epoch so far.
function M:loss() return self.epoch.loss / math.max(1, self.epoch.images) end

--- The epoch is over; what the test gave.
function M:test_point(epoch, loss, accuracy)
  self.test[#self.test + 1] = { epoch, loss, accuracy }
  reset(self.epoch)
end

--- Points { epochs, value } of a curve: 'train' or 'test', 'loss' or 'accuracy'.
function M:curve(set, what)
  local points = {}
  for i, p in ipairs(self[set]) do points[i] = { p[1], what == 'loss' and p[2] or p[3] } end
  return points
end

-- ---- As text: a word and three numbers a line ----------------------------------------------

local LINE = '%s %.17g %.17g %.17g' -- 17 digits give back the very number

---@return string[] lines
function M:lines()
  local lines = {}
  for _, name in ipairs { 'window', 'epoch' } do
    local sums = self[name]
    lines[#lines + 1] = LINE:format(name, sums.images, sums.loss, sums.hits)
  end
  for _, name in ipairs { 'train', 'test' } do
    for _, p in ipairs(self[name]) do lines[#lines + 1] = LINE:format(name, p[1], p[2], p[3]) end
  end
  return lines
end

--- Takes a line of lines(); whether it was one.
---@return boolean
function M:read_line(line)
  local name, a, b, c = line:match('^(%l+) (%S+) (%S+) (%S+)$')
  a, b, c = tonumber(a), tonumber(b), tonumber(c)
  if not (a and b and c) then return false end
  if name == 'window' or name == 'epoch' then
    local sums = self[name]
    sums.images, sums.loss, sums.hits = a, b, c
  elseif name == 'train' or name == 'test' then
    self[name][#self[name] + 1] = { a, b, c }
  else
    return false
  end
  return true
end

return M
