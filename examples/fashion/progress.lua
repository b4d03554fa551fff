-- SPDX-License-Identifier: MIT
--- Shows how far training is: a bar that moves on a terminal, a line now and then elsewhere.

local time = require 'posix.time'
local unistd = require 'posix.unistd'

local M = {}
M.__index = M

local STDOUT = 1
local BAR_CELLS = 24
local REDRAW, REPORT = 0.1, 5 -- seconds between two drawings, and between two plain lines
local EIGHTHS = { '▏', '▎', '▍', '▌', '▋', '▊', '▉' }

-- Whether the terminal is told to show more than ASCII.
local function knows_utf8()
  for _, name in ipairs { 'LC_ALL', 'LC_CTYPE', 'LANG' } do -- the first that is set counts
    local value = os.getenv(name)
    if value and value ~= '' then return value:lower():find('utf%-?8') ~= nil end
  end
  return false
end
local UTF8 = knows_utf8()

--- Seconds on a clock that never jumps.
---@return number
function M.now()
  local t = time.clock_gettime(time.CLOCK_MONOTONIC)
  return t.tv_sec + t.tv_nsec * 1e-9
end

---@param epochs integer
---@param batches integer in an epoch
---@param images integer in a batch
---@param label? string what stands at the beginning of each line
function M.new(epochs, batches, images, label)
  local now, terminal = M.now(), unistd.isatty(STDOUT) ~= nil
  return setmetatable({
    epochs = epochs, batches = batches, images = images, terminal = terminal,
    label = label and label .. '  ' or '',
    shown = terminal and 0 or now, -- when something was shown last: a bar is there at once
    began = now, done = 0, -- when this epoch began, and batches since
  }, M)
end

--- One that shows nothing, for workers that another one speaks for.
function M.silent()
  local function nothing() end
  return { start = nothing, batch = nothing, line = nothing, rate = nothing }
end

local function bar(part)
  if not UTF8 then
    local cells = math.floor(part * BAR_CELLS)
    return '[' .. ('#'):rep(cells) .. ('.'):rep(BAR_CELLS - cells) .. ']'
  end
  local eighths = math.floor(part * BAR_CELLS * 8)
  local full = math.floor(eighths / 8)
  local text = ('█'):rep(full) .. (EIGHTHS[eighths % 8] or '')
  local cells = full + (eighths % 8 > 0 and 1 or 0)
  return '▕' .. text .. (' '):rep(BAR_CELLS - cells) .. '▏'
end

function M:rate()
  return self.done * self.images / math.max(M.now() - self.began, 1e-9)
end

-- Over what stood there: back to the line's start, then clear the rest.
local function draw(text)
  io.write('\r', text, '\27[K')
  io.flush()
end

--- An epoch begins, or goes on after a resume.
function M:start()
  self.began, self.done = M.now(), 0
end

--- A batch is done. `loss` is called only if something is shown.
---@param epoch integer
---@param batch integer in this epoch
---@param loss fun(): number the mean so far
function M:batch(epoch, batch, loss)
  self.done = self.done + 1
  local now = M.now()
  if now - self.shown < (self.terminal and REDRAW or REPORT) then return end
  self.shown = now
  local digits = #tostring(self.epochs)
  if self.terminal then
    draw(('%sepoch %' .. digits .. 'd/%d %s loss %.4f  %6.0f images/s'):format(self.label, epoch,
      self.epochs, bar(batch / self.batches), loss(), self:rate()))
  else
    print(('%sepoch %' .. digits .. 'd/%d  batch %d/%d  loss %.4f  %.0f images/s'):format(
      self.label, epoch, self.epochs, batch, self.batches, loss(), self:rate()))
  end
end

--- Prints a line that stays, in the place of the bar.
---@param text string
function M:line(text)
  if self.terminal then draw('') end
  print(text)
  if not self.terminal then self.shown = M.now() end
end

return M
