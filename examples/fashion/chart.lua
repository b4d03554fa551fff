-- SPDX-License-Identifier: MIT
--- Line charts as SVG, a picture every browser opens: panels side by side, each with axes,
-- round numbers at the ticks, and a legend.
--
--   chart.svg { title = 'Loss and accuracy', note = 'adam, 10 epochs', panels = { {
--     title = 'loss', x_label = 'epoch', x_max = 10,
--     series = { { name = 'training', points = { { x, y }, ... } },
--                { name = 'test', points = { ... }, dots = true } },
--   } } }

local M = {}

local COLOURS = { '#2f6fb7', '#d9722e', '#3a9a64', '#8e5fb3' }
local INK, FAINT, GRID = '#22272e', '#6a737d', '#e4e8ec'
local PANEL_WIDTH, PANEL_HEIGHT = 430, 290 -- of the plotted area
local LEFT, RIGHT, TOP, BOTTOM = 62, 26, 96, 58 -- around each
local TICKS = 5

local STYLE = ([[
    text { font-family: "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; fill: INK }
    .title { font-size: 18px; font-weight: 600 }
    .note, .label, .tick { font-size: 12px; fill: FAINT }
    .panel { font-size: 14px; font-weight: 600 }
    .legend { font-size: 12px }
    .grid { stroke: GRID; stroke-width: 1 }
    .axis { stroke: FAINT; stroke-width: 1 }
    .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
]]):gsub('%u%u+', { INK = INK, FAINT = FAINT, GRID = GRID })

local function escape(text)
  return (tostring(text):gsub('[&<>"]', { ['&'] = '&amp;', ['<'] = '&lt;', ['>'] = '&gt;',
    ['"'] = '&quot;' }))
end

--- A distance between ticks that people like: 1, 2 or 5 times a power of ten, with about
-- TICKS of them in `range`.
local function tick_step(range)
  local rough = range / TICKS
  local power = 10 ^ math.floor(math.log10(rough))
  for _, factor in ipairs { 1, 2, 5 } do
    if factor * power >= rough * 0.999 then return factor * power end
  end
  return 10 * power
end

--- A tick's number, with the decimals that tell ticks `step` apart.
local function tick_text(value, step)
  local decimals = math.max(0, math.ceil(-math.log10(step) - 1e-9))
  return ('%%.%df'):format(decimals):format(value)
end

--- Smallest and largest y, rounded outwards to ticks. Numbers that are none are left out.
local function y_limits(series)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(series) do
    for _, point in ipairs(s.points) do
      if math.abs(point[2]) < math.huge then -- false for NaN, too
        low, high = math.min(low, point[2]), math.max(high, point[2])
      end
    end
  end
  if low > high then low, high = 0, 1 end
  if high - low < 1e-9 * math.max(1, math.abs(high)) then low, high = low - 0.5, high + 0.5 end
  local step = tick_step(high - low)
  return math.floor(low / step) * step, math.ceil(high / step) * step, step
end

local function panel(add, p, left)
  local right, top, bottom = left + PANEL_WIDTH, TOP, TOP + PANEL_HEIGHT
  local low, high, y_step = y_limits(p.series)
  local x_max = math.max(p.x_max, 1e-9)
  local x_step = math.max(tick_step(x_max), p.x_whole and 1 or 0)
  local function px(x) return left + PANEL_WIDTH * x / x_max end
  local function py(y) return bottom - PANEL_HEIGHT * (y - low) / (high - low) end

  add('<text class="panel" x="%d" y="%d">%s</text>', left, top - 14, escape(p.title))
  for i = 0, math.floor((high - low) / y_step + 0.5) do
    local y = low + i * y_step
    add('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>', left, right, py(y), py(y))
    add('<text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>', left - 8, py(y) + 4,
      tick_text(y, y_step))
  end
  for i = 0, math.floor(x_max / x_step + 1e-9) do
    local x = i * x_step
    add('<line class="axis" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>', px(x), px(x), bottom,
      bottom + 5)
    add('<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>', px(x), bottom + 19,
      tick_text(x, x_step))
  end
  add('<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>', left, right, bottom, bottom)
  add('<text class="label" x="%.1f" y="%d" text-anchor="middle">%s</text>',
    (left + right) / 2, bottom + 40, escape(p.x_label))

  local legend = right
  for i = #p.series, 1, -1 do
    local s, colour = p.series[i], COLOURS[(i - 1) % #COLOURS + 1]
    local places = {}
    for _, point in ipairs(s.points) do
      if math.abs(point[2]) < math.huge then
        places[#places + 1] = ('%.1f,%.1f'):format(px(point[1]), py(point[2]))
      end
    end
    add('<polyline class="line" stroke="%s" points="%s"/>', colour, table.concat(places, ' '))
    for _, place in ipairs(s.dots and places or {}) do
      add('<circle cx="%s" cy="%s" r="3.5" fill="%s"/>', place:match('^[^,]*'),
        place:match('[^,]*$'), colour)
    end
    legend = legend - 7 * #s.name
    add('<text class="legend" x="%d" y="%d">%s</text>', legend, top - 14, escape(s.name))
    add('<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="%s" stroke-width="3"/>', legend - 26,
      legend - 8, top - 18, top - 18, colour)
    legend = legend - 46
  end
end

--- The picture as text.
---@param picture table see above; panels may hold x_whole: ticks at whole x only
---@return string
function M.svg(picture)
  local lines = {}
  local function add(text, ...) lines[#lines + 1] = '  ' .. text:format(...) end
  local width = #picture.panels * (LEFT + PANEL_WIDTH + RIGHT)
  local height = TOP + PANEL_HEIGHT + BOTTOM
  add('<style>\n%s  </style>', STYLE)
  add('<rect width="100%%" height="100%%" fill="#ffffff"/>')
  add('<text class="title" x="%d" y="34">%s</text>', LEFT, escape(picture.title))
  add('<text class="note" x="%d" y="54">%s</text>', LEFT, escape(picture.note))
  for i, p in ipairs(picture.panels) do
    panel(add, p, (i - 1) * (LEFT + PANEL_WIDTH + RIGHT) + LEFT)
  end
  return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
    .. 'role="img">\n%s\n</svg>\n'):format(width, height, width, height,
    table.concat(lines, '\n'))
end

return M
