-- A symbol of the tests: points between `add header` and `reject`.
rspamd_config:register_symbol{
  name = 'TEST_SEVEN',
  score = @POINTS@,
  group = 'test',
  callback = function(task)
    return tostring(task:get_content()):find('@WORD@', 1, true) ~= nil
  end,
}
