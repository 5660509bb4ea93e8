require ["vacation","date","relational","fileinto","imap4flags","enotify","variables"];
if anyof (header :contains "subject" "広告", address :matches "from" "*@spam.example") {
    fileinto "INBOX/Junk";
    stop;
}
if allof (address :contains "from" "newsletter") {
    fileinto "Newsletters";
}
if allof ( not exists ["list-help", "list-unsubscribe", "list-id", "Mailing-List"], not header :comparator "i;ascii-casemap" :is "Precedence" ["list", "bulk", "junk"], not header :comparator "i;ascii-casemap" :matches "To" "Multiple recipients of*", currentdate :value "ge" "date" "2026-12-28", currentdate :value "le" "date" "2027-01-04" ) { if header :matches "Subject" "*" { set "subject" "${1}"; } vacation :days 1 :subject "Away: ${subject}" :addresses ["taro@east.example.jp", "t.yamada@east.example.jp"] text:
On leave.
.
;
}
redirect "taro.home@example.net";
keep;
if header :matches "subject" "*" {
  set "subject" "${1}";
}
set :encodeurl "body_param" "New mail";
notify :message "New: '${subject}'" "mailto:taro.mobile@example.net?body=${body_param}";
