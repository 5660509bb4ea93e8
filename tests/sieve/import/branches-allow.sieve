require "fileinto";
# What is kept above is not forwarded below, but held neither.
if address :matches "from" "*@example.com" {
    stop;
} elsif header :contains "subject" "invoice" {
    redirect "billing@else.example";
} elsif header :contains "subject" "prize" {
    fileinto "Junk";
}
