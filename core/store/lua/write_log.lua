-- Add text to the log of jobs that a node runs, or ran last. The first half of the bound is kept,
-- and the last half. A line tells where a further attempt begins. See core/log_text.py.
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local node, bound = arg(), number()
refused = dead(node)
if refused then
  return refused
end
local half = math.floor(bound / 2)
local answers = {}
while at < #ARGV do
  local s, attempt, skipped, text = arg(), arg(), number(), arg()
  local f = try('HMGET', P .. 'j:' .. s, 's', 'w')
  local is_open = f[1] and tonumber(f[1]) < 5 and f[2] == node
  if is_open then
    local key = P .. 'l:' .. s
    local have = call('HMGET', key, 'h', 't', 'n', 'a', 'e', 'c')
    local head, tail, total = have[1] or '', have[2] or '', tonumber(have[3]) or 0
    local last, ends_line, is_closed = have[4] or '0', have[5] ~= '0', have[6] == '1'
    local function add(piece)
      total = total + #piece
      local room = is_closed and 0 or half - #head
      if room > 0 then
        head = head .. string.sub(piece, 1, room)
        piece = string.sub(piece, room + 1)
      end
      if piece ~= '' then
        is_closed = true
        tail = tail .. piece
        tail = string.sub(tail, math.max(#tail - half, 0) + 1)
      end
    end
    if skipped > 0 then
      total, tail, is_closed = total + skipped, '', true
    end
    if text ~= '' then
      -- An attempt that was cut off may be made again under its number, by another node.
      local this = attempt .. '@' .. node
      if this ~= last then
        if tonumber(attempt) > 1 or last ~= '0' then
          add((ends_line and '' or '\n') .. '--- attempt ' .. attempt .. ' ---\n')
        end
        last = this
      end
      add(text)
      ends_line = string.sub(text, -1) == '\n'
    end
    call('HSET', key, 'h', head, 't', tail, 'n', string.format('%.0f', total), 'a', last, 'e', ends_line and 1 or 0,
      'c', is_closed and 1 or 0)
    call('HSET', P .. 'j:' .. s, 'L', string.format('%.0f', total))
  end
  answers[#answers + 1] = is_open and '1' or '0'
end
return table.concat(answers)
