require ["fileinto", "vacation", "date", "relational", "variables"];
# Within the time of the reply nothing below is done.
if header :contains "subject" "prize" {
    discard;
} elsif allof (currentdate :value "ge" "date" "2026-12-28", currentdate :value "le" "date" "2027-01-04") {
    vacation "I am away.";
} elsif header :contains "subject" "invoice" {
    redirect "billing@else.example";
} elsif header :contains "subject" "hello" {
    discard;
}
set "word" "invoice";
if not not header :contains "subject" "${word}" { discard; }
