# run.pl: tests/run's engine: TAP::Harness, with the reason of every skip and one line of counts.
# Output of a test is kept and shown only when it fails; two programs run at a time.
use strict;
use warnings;
use TAP::Harness;
use TAP::Parser::Aggregator;

my $limit = $ENV{NPUMOE_TEST_SECONDS} || 600;    # a hanging test must not hang the run
my $jobs  = $ENV{NPUMOE_TEST_JOBS}    || 2;

sub command {
    my ( $harness, $test ) = @_;
    my @cmd = split ' ', $test;
    unshift @cmd, 'sh' if $cmd[0] =~ /\.sh$/;
    return [ $^X, '-e', 'alarm shift; exec @ARGV or die "$ARGV[0]: $!\n"', $limit, @cmd ];
}

# After a bail-out the formatter subtracts times that it never took.
$SIG{__WARN__} = sub { print STDERR @_ unless $_[0] =~ m{TAP/Formatter} };

my ( @skips, $bailed );
my $harness = TAP::Harness->new( { exec => \&command, jobs => $jobs, timer => 1, failures => 1 } );
$harness->callback(
    made_parser => sub {
        my ( $parser, $job ) = @_;
        my $name = $job->[1];
        $parser->callback( test => sub { push @skips, "$name: " . $_[0]->explanation if $_[0]->has_skip } );
        $parser->callback( plan => sub { push @skips, "$name: " . $_[0]->explanation if $_[0]->has_skip } );
        $parser->callback( bailout => sub { print STDERR "$name: bail out: " . $_[0]->explanation . "\n" } );
    }
);

my $all = TAP::Parser::Aggregator->new;
$all->start;
$bailed = !eval { $harness->aggregate_tests( $all, @ARGV ); 1 };
$all->stop;
$harness->summary($all) unless $bailed;

my %count;
$count{$_}++ for @skips;
print "skipped: $_", $count{$_} > 1 ? " (x$count{$_})" : '', "\n" for sort keys %count;

my ( $pass, $fail, $skip ) = ( 0, $bailed ? 1 : 0, 0 );
for my $parser ( $all->parsers ) {
    my $skipped = $parser->skip_all ? 1 : scalar $parser->skipped;
    my $failed  = scalar $parser->failed;
    $failed++ if !$failed && $parser->has_problems;    # died, wrong plan, no tests at all
    $pass += scalar( $parser->passed ) - ( $parser->skip_all ? 0 : $skipped );
    $fail += $failed;
    $skip += $skipped;
}
if ( my $tally = $ENV{NPUMOE_TALLY} ) {
    open my $out, '>>', $tally or die "$tally: $!\n";
    print $out "$pass $fail $skip\n";
}
print "$pass passed, $fail failed, $skip skipped\n";
exit( $fail || $pass + $skip == 0 ? 1 : 0 );
