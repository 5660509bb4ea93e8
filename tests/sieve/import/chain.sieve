require ["envelope", "vacation", "copy"];
# Replies by sender, and a chain of forwards.
if envelope :domain :is "from" "supplier.example" {
    vacation :days 1 "Please call 03-0000-0000.";
} else {
    vacation :days 1 :subject "Away" "I am away.";
}
if anyof (header :contains "subject" "請求書", size :over 1M) {
    redirect :copy "first@example.net";
} elsif not size :over 2K {
    redirect "second@example.net";
} else {
    redirect "third@example.net";
}
if header :contains "subject" "again" { redirect "fourth@example.net"; }
stop;
redirect "never@example.net";
